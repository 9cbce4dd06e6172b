"""Fixtures of the miniature run."""

import multiprocessing

import programs
import pytest
from miniature import ROOT, TINY, train_quietly

from osal_detectron2.data.synthetic import make_release


@pytest.fixture(scope="session")
def tiles(tmp_path_factory):
    """A NuCLS release of 24 tiles."""
    folder = tmp_path_factory.mktemp("release")
    make_release(folder, tiles=24, seed=3, size=96, workers=1)
    from osal_detectron2.data.nucls_prepare import prepare

    if not (folder / "annotations").exists():
        prepare(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiles, tmp_path_factory):
    """Path of a config of the miniature."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY.format(root=ROOT, data=tiles))
    return path


@pytest.fixture(scope="session")
def start():
    """start(config, options, flags=()) -> a child process that runs the tool, forked from a server to start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*programs.PRELOADED, "miniature"])

    def begin(config, options, flags=()):
        process = context.Process(target=train_quietly, args=(str(config), [str(o) for o in options], flags))
        process.start()
        return process

    return begin


@pytest.fixture(scope="session")
def reference(tiny_config, start, tmp_path_factory):
    """An uninterrupted run of the miniature."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    process = start(tiny_config, ["OUTPUT_DIR", folder, "OSAL.EVAL.CURVES", True])
    process.join()
    assert process.exitcode == 0
    return folder
