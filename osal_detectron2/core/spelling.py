"""How a command is typed here: `osal run status`, or `python tools/al.py status` from a clone without installation."""

import re
import shlex
import sys
from pathlib import Path

# Command -> the file of tools/ that is the same, longer names first.
TOOLS = {
    "data check": "check_dataset.py",
    "data config": "make_config.py",
    "data nucls": "prepare_nucls.py",
    "data synthetic": "make_synthetic.py",
    "data tile": "tile_coco.py",
    "run detections": "plot_detections.py",
    "run report": "report.py",
    "benchmark": "benchmark.py",
    "export": "export_model.py",
    "lazy": "lazy_train_al.py",
    "plot": "plot.py",
    "predict": "predict.py",
    "run": "al.py",
    "train": "train_al.py",
}
_COMMAND = re.compile(rf"\bosal ({'|'.join(TOOLS)})\b")


def typed(name: str) -> str:
    """The command `osal NAME` as this process was started: by that, by a tool of a clone, or by a script."""
    program = Path(sys.argv[0])
    if program.suffix == ".py" and program.name not in ("__main__.py", *TOOLS.values()):
        return f"python {shlex.quote(str(program))}"
    return spelled(f"osal {name}")


def spelled(text: str) -> str:
    """`text` with each command `osal ...` in it as this process was started: unchanged, or with the tool of a clone."""
    program = Path(sys.argv[0])
    if program.parent.name != "tools" or program.name not in TOOLS.values():
        return text
    return _COMMAND.sub(lambda found: f"python {shlex.quote(str(program.with_name(TOOLS[found[1]])))}", text)
