"""What holds the code in shape before a commit is what holds it in `make lint`."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_pre_commit_runs_what_make_lint_runs():
    lines = re.search(r"^lint:.*\n((\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M)[1]
    rules = [line.strip("\t@").replace("$(VENV_PYTHON)", ".venv/bin/python") for line in lines.splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == rules
