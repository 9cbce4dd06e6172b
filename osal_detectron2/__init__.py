"""Open-set active learning of nucleus detection on Detectron2.

Importing this package is cheap: `osal_detectron2.core`, the strategies and the oracles run without torch and
Detectron2. `from osal_detectron2 import add_osal_config`, which every training script needs for its config
keys, also registers the models; without that Detectron2 says "No object named 'OSALRCNN' found in 'META_ARCH'
registry". A script that has imported Detectron2 already gets them with a plain `import osal_detectron2`.
"""

import sys

from osal_detectron2.requirement import require_detectron2

__version__ = "0.1.0"
__all__ = ["__version__", "add_osal_config", "require_detectron2"]


def __getattr__(name):
    if name != "add_osal_config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_detectron2()
    import osal_detectron2.registration  # noqa: F401
    from osal_detectron2.config import add_osal_config

    globals()[name] = add_osal_config
    return add_osal_config


if "detectron2" in sys.modules:
    require_detectron2()
    import osal_detectron2.registration  # noqa: F401
