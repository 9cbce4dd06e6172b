"""What holds the code in shape: before a commit, in `make lint`, and that files can be read at a sitting."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_pre_commit_runs_what_make_lint_runs():
    lines = re.search(r"^lint:.*\n((\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M)[1]
    rules = [line.strip("\t@").replace("$(VENV_PYTHON)", ".venv/bin/python") for line in lines.splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == rules


def test_the_layers_of_the_architecture_page_are_those_that_import_linter_holds():
    contract = re.search(r"^layers = \[\n(.*?)\]", (ROOT / "pyproject.toml").read_text(), flags=re.M | re.S)[
        1
    ]
    held = [set(re.findall(r"\w+", layer)) for layer in contract.splitlines()][1:]  # without __main__
    page = (ROOT / "docs/architecture.md").read_text().split("\n## ")[1]
    layers = []
    for number, names in re.findall(r"^\| (\d+|  ?) ?\| (`.*?`) \|", page, flags=re.M):
        if number.strip():
            layers.append(set())
        layers[-1] |= {name.removesuffix(".py") for name in re.findall(r"`([\w.]+)`", names)}
    assert layers == held


@pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="only a clone knows which files are the repository's"
)
def test_no_python_file_is_longer_than_300_lines():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    lengths = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in paths}
    long = [f"{name} ({lines})" for name, lines in lengths.items() if lines > 300]
    assert len(lengths) > 100
    assert not long, f"{', '.join(long)}: over 300 lines; move one idea of it into a file of its own"
