#!/usr/bin/env python
"""`osal train` from a clone without installation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from osal_detectron2.commands.main import main  # noqa: E402


def run(argv=None) -> None:
    """For scripts that import this file."""
    sys.exit(main(["train", *(sys.argv[1:] if argv is None else argv)]))


if __name__ == "__main__":
    run()
