"""The tools of this repository as functions."""

import importlib.util
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "tools"


def main_of(name):
    """main(arguments) of tools/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main
