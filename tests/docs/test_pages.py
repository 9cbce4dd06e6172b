"""A page is a script: its commands and its code, run in the order of the page, in a folder that looks like a clone."""

import os
import re
import subprocess

import clone
import programs
import pytest
from detectron2.config import get_cfg
from pages import PAGES, blocks, lines, name_of
from scenery import BEFORE_PYTHON, GIVEN, NOT_RUN, RESULTS, SAVED_AS, SUBSTITUTIONS

from osal_detectron2 import add_osal_config

SLOW = ("benchmark", "benchmark_figures", "benchmarks", "distributed", "studies")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return clone.make_data(tmp_path_factory.mktemp("page-data"))


@pytest.fixture
def folder(data, tmp_path):
    place = tmp_path / "osal_detectron2"
    clone.make_clone(place, data, programs.folder() / "python")
    return place


def script(block, given) -> str:
    """The block as a shell runs it here; `given` loses what was put before a command."""
    text = []
    for line in lines(block):
        for entry in [e for e in given if e[0] in line]:
            text.append(entry[1])
            given.remove(entry)
        if any(re.search(pattern, line) for pattern, _ in NOT_RUN):
            line = ":"
        for pattern, replacement in SUBSTITUTIONS:
            line = re.sub(pattern, replacement, line)
        text.append(line)
    return "\n".join(text)


def run(words, folder, what):
    environment = {**os.environ, "PATH": f"{programs.folder()}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    said = f"{what}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, said
    assert "Traceback" not in done.stdout + done.stderr, said


def marked(page):
    name = name_of(page)
    return pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("page", map(marked, PAGES))
def test_a_page_is_a_script(page, folder):
    name = name_of(page)
    given, code = list(GIVEN.get(name, ())), BEFORE_PYTHON.get(name, "")
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.kind == "sh":
            run(["sh", "-ec", script(block, given)], folder, where)
        elif block.kind == "python" and name in SAVED_AS:
            (folder / SAVED_AS[name]).write_text(block.text)
        elif block.kind == "python":
            code += f"\n# {where}\n{block.text}"
            (folder / "page.py").write_text(code)
            run(["python", "page.py"], folder, where)
        elif block.kind == "yaml" and block.text.startswith("config:"):
            (folder / "configs/benchmarks/page.yaml").write_text(block.text)
            run(
                [
                    "python",
                    "tools/benchmark.py",
                    "configs/benchmarks/page.yaml",
                    "--output",
                    "output/page",
                    "--list",
                ],
                folder,
                where,
            )
        elif block.kind == "yaml":
            (folder / "configs/page.yaml").write_text(block.text)
            cfg = get_cfg()
            add_osal_config(cfg)
            cfg.merge_from_file(str(folder / "configs/page.yaml"))
    assert not given, f"{name}: not on the page any more: {[entry[0] for entry in given]}"
    for promise in RESULTS.get(name, ()):
        path, _, text = promise.partition(" with ")
        assert (folder / path).exists(), f"{page.name} promises {path}"
        assert not text or text in (folder / path).read_text(), f"{page.name}: {path} lacks {text}"
