"""The miniature of tests/engine as a grid of cells."""

import contextlib
import os
import sys
from pathlib import Path

import programs
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "engine"), str(ROOT / "benchmarks")]
os.environ.setdefault("OMP_NUM_THREADS", "1")


@contextlib.contextmanager
def preloaded():
    """Plans and cells are processes of a preloaded Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", programs.python())
        yield


@pytest.fixture(autouse=True, scope="module")
def fast_start():
    with preloaded():
        yield


GRID = """
config: "{config}"
options: {{OSAL.EVAL.GALLERY_TILES: 0, OSAL.BUDGET.NUM_QUERIES: 1}}
methods:
  random: {{OSAL.STRATEGY: random}}
  count_all: {{OSAL.STRATEGY: count_all}}
  full: {{OSAL.BUDGET.INIT_FRACTION: 0.5}}
settings:
  "3_4": {{OSAL.DATA.KNOWN_CLASSES: [tumor, lymphocyte, stromal]}}
  "1_6": [OSAL.DATA.KNOWN_CLASSES, [tumor]]
seeds: [0, 1]
"""


@pytest.fixture(scope="session")
def grid_file(tmp_path_factory):
    """A grid of the miniature with its data."""
    from miniature import TINY

    from osal_detectron2.data.nucls_prepare import prepare
    from osal_detectron2.data.synthetic import make_release

    folder = tmp_path_factory.mktemp("grid")
    make_release(folder / "data", tiles=24, seed=3, size=96, workers=1)
    if not (folder / "data" / "annotations").exists():
        prepare(folder / "data")
    (folder / "tiny.yaml").write_text(TINY.format(root=ROOT, data=folder / "data"))
    path = folder / "grid.yaml"
    path.write_text(GRID.format(config="tiny.yaml"))
    return path


@pytest.fixture(scope="session")
def finished(grid_file, tmp_path_factory):
    """A folder with the complete cells random and full of 3_4 and seed 0, run two at a time."""
    output = tmp_path_factory.mktemp("bench")
    words = ["--jobs", "2", "--only", "random,full", "--settings", "3_4", "--seeds", "0", "--commit", "c0"]
    with preloaded():
        assert programs.osal("benchmark", grid_file, "--output", output, *words) == 0
    return output
