"""Silence for warnings that the user of a tool cannot mend: of Detectron2 and timm on a recent torch.

The tools call it first, before torch is imported; who imports this package keeps the warnings.
"""

import logging
import warnings

_MESSAGES = ".*(indexing argument|`broadcast_buffers`)"
_LOGGERS = ("torch.fx._symbolic_trace",)  # "is_fx_tracing will return true for both ..."


def quiet() -> None:
    """Let no such warning reach the screen from here on."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=_MESSAGES)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
