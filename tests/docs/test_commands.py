"""Every command of the README and the docs names a command, options and config keys that exist."""

import os
import re
import shlex
from functools import cache
from pathlib import Path

import programs
import pytest
from detectron2.config import get_cfg

from osal_detectron2 import add_osal_config
from osal_detectron2.commands.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
PAGES = [page for page in PAGES if page.exists()]


def commands(page: Path) -> list[list[str]]:
    """The indented or fenced command lines of a page that call one of our programs, as words."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    lines = (line.strip().removeprefix("$ ") for line in text.splitlines())
    found = [
        line
        for line in lines
        if re.match(r"(\S+=\S+ )*(python\S* (tools|benchmarks)/\w+\.py|osal [a-z])", line)
    ]
    return [shlex.split(line.split(" # ")[0], comments=True) for line in found]


@cache
def help_of(*words: str) -> str:
    done = programs.run([*words, "--help"], cwd=ROOT, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return done.stdout


CASES = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), CASES, ids=lambda x: x.stem if isinstance(x, Path) else x[1])
def test_a_documented_command_exists(page, words):
    while "=" in words[0]:
        words = words[1:]
    if words[0] == "osal":
        length = next(n for n in (2, 1) if " ".join(words[1 : n + 1]) in COMMANDS)
        tool, arguments = " ".join(words[: length + 1]), words[length + 1 :]
        text = help_of("-m", "osal_detectron2", *words[1 : length + 1])
    else:
        tool, arguments = words[1], words[2:]
        assert (ROOT / tool).is_file()
        text = help_of(tool)
    for option in (a.split("=")[0] for a in arguments if a.startswith("--")):
        assert option in text, f"{tool} has no option {option}"
    cfg = get_cfg()
    add_osal_config(cfg)
    for key in (a for a in arguments if re.fullmatch(r"[A-Z0-9_]+(\.[A-Z0-9_]+)*", a) and "." in a):
        node = cfg
        for part in key.split("."):
            assert part in node, f"no config key {key}"
            node = node[part]
    for config in (a for a in arguments if a.startswith("configs/")):
        assert (ROOT / config).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_config_keys_of_a_page_exist(page):
    text = page.read_text()
    cfg = get_cfg()
    add_osal_config(cfg)
    for key in set(re.findall(r"`(OSAL\.[A-Z0-9_.]+[A-Z0-9])`", text)):
        node = cfg
        for part in key.split("."):
            assert part in node, f"{page.name} names {key}, which is no config key"
            node = node[part]


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for page in PAGES:
        for line in re.findall(r"^    make ([a-z-]+)", page.read_text(), flags=re.M):
            assert line in targets, f"{page.name}: make {line}"
