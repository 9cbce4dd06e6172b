"""`osal benchmark` on cells of the miniature, with real processes of `osal train`."""

import contextlib
import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
from programs import osal

from osal_detectron2.commands.benchmark import OUT_OF_TIME
from osal_detectron2.core.errors import LedgerError
from osal_detectron2.core.lock import RunLock

# A real process, for signals; its cells are of the preloaded Python.
GRID = """
import runpy, sys
sys.executable, sys.argv = sys.argv[1], sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PYTHON, TOOL = sys.executable, Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"
ONE = ["--settings", "3_4", "--seeds", "0"]


@contextlib.contextmanager
def left(run):
    """Hold the lock of a run that nobody works in any more; the kernel needs a moment to end a large process."""
    deadline = time.monotonic() + 5
    while True:
        try:
            lock = RunLock(run).acquire()
            break
        except LedgerError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    yield
    lock.release()


def result(output, method):
    return json.loads((output / "results" / f"3_4-all-{method}-0.json").read_text())


def test_a_result_file_says_what_the_run_measured(finished):
    found, run = result(finished, "random"), finished / "cells/3_4/all/random/0"
    metrics = [json.loads((run / f"rounds/00{r}/metrics.json").read_text()) for r in (0, 1)]
    timing = json.loads((run / "rounds/000/timing.json").read_text())
    queried = json.loads((run / "rounds/000/labels.json").read_text())["tiles"]
    initial = json.loads((run / "rounds/init/labels.json").read_text())["tiles"]
    known = {"tumor", "lymphocyte", "stromal"}

    def count(tiles, wanted):
        return sum(wanted(name) for tile in tiles.values() for name in tile["classes"])

    assert (found["schema"], found["method"], found["setting"]) == ("osal-cell/1", "random", "3_4")
    assert (found["fold"], found["seed"], found["strategy"]) == ("all", 0, "random")
    assert found["known_classes"] == ["tumor", "lymphocyte", "stromal"] and len(found["unknown_classes"]) == 4
    assert not known & set(found["unknown_classes"]) and found["commit"] == "c0"
    assert len(found["config_sha256"]) == 64 and found["hardware"]["cores"] >= 1
    assert [entry["mAP50"] for entry in found["rounds"]] == [m["bbox"]["mAP50"] for m in metrics]
    assert [entry["aose"] for entry in found["rounds"]] == [m["open_set"]["A-OSE"] for m in metrics]
    assert [entry["labelled_tiles"] for entry in found["rounds"]] == [4, 8]
    first, last = found["rounds"]
    assert (
        first["known_queried"]
        == count(queried, known.__contains__)
        == last["known_annotated"] - first["known_annotated"]
    )
    assert first["known_annotated"] == count(initial, known.__contains__)
    assert last["nuclei_annotated"] == count(queried, bool) + count(initial, bool)
    assert first["purity"] == pytest.approx(first["known_queried"] / count(queried, bool))
    assert first["seconds"]["train"] == timing["train"] and last["purity"] is None
    assert found["final_mAP50"] == last["mAP50"]
    assert found["aulc"] == pytest.approx((first["mAP50"] + last["mAP50"]) / 2)
    with open(run / "curve.csv") as file:
        assert [float(row["mAP50"]) for row in csv.DictReader(file)] == [e["mAP50"] for e in found["rounds"]]


def test_full_annotation_is_one_training_on_everything(finished):
    found = result(finished, "full")
    assert [entry["labelled_tiles"] for entry in found["rounds"]] == [
        found["train_tiles"] // 2 + found["train_tiles"] % 2
    ]
    assert found["aulc"] == found["final_mAP50"] and found["rounds"][0]["queried_tiles"] == 0


def test_complete_cells_are_skipped_and_need_no_run_folder(grid_file, finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    assert osal("benchmark", grid_file, "--output", finished, "--only", "random,full", *ONE) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "2 cells, 2 complete" in capsys.readouterr().out


def test_weights_that_nobody_needs_are_gone(finished):
    run = finished / "cells/3_4/all/random/0"
    assert [p.name for p in run.glob("*.pth")] == ["model_final.pth"]
    assert (run / "last_checkpoint").read_text() == "model_final.pth"


def test_a_result_of_another_config_stops_the_grid(grid_file, finished, capsys):
    words = [str(grid_file), "--output", str(finished), "--only", "random", *ONE]
    assert osal("benchmark", *words, "SOLVER.BASE_LR", "0.02") == 1
    error = capsys.readouterr().err
    assert "3_4-all-random-0.json: made with another config" in error and "delete this file" in error
    assert osal("benchmark", *words, "OSAL.SCORING.BATCH_SIZE", "2") == 0  # has no influence on results


def test_at_the_time_limit_running_cells_are_stopped(grid_file, tmp_path, capsys):
    words = [str(grid_file), "--output", str(tmp_path), "--only", "random", *ONE]
    assert osal("benchmark", *words, "--max-minutes", "0.01") == OUT_OF_TIME
    assert "start again to go on" in capsys.readouterr().out and not (tmp_path / "results").exists()
    with left(tmp_path / "cells/3_4/all/random/0"):
        pass  # nobody works there any more


@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)], ids=lambda value: str(value)
)
def test_stopped_then_resumed_gives_the_same_result(grid_file, finished, tmp_path, name, code):
    """Also by a closed terminal, and by a kill that leaves no time to stop the cell."""
    words = [str(grid_file), "--output", str(tmp_path), "--only", "random", *ONE]
    run = tmp_path / "cells/3_4/all/random/0"
    tool = [PYTHON, "-c", GRID, programs.python(), TOOL, *words]
    # Tests may run under nohup, whose children ignore SIGHUP.
    process = subprocess.Popen(tool, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    while not (run / "rounds/init/commit.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    assert process.wait(30) == code and not (tmp_path / "results").exists()
    with left(run):
        assert not (run / "rounds/001/commit.json").exists()  # the cell did not go on by itself
    assert osal("benchmark", *words) == 0
    mine, expected = result(tmp_path, "random"), result(finished, "random")
    volatile = ("seconds", "commit", "hardware")
    for content in (mine, expected):
        content["rounds"] = [
            {k: v for k, v in entry.items() if k != "seconds"} for entry in content["rounds"]
        ]
        content.update(dict.fromkeys(volatile))
    assert mine == expected


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="reads the environment of processes in /proc"
)
def test_each_job_sees_one_of_the_gpus(grid_file, tmp_path):
    words = [
        str(grid_file),
        "--output",
        str(tmp_path),
        "--only",
        "random,full",
        *ONE,
        "--jobs",
        "2",
        "--gpus",
        "3,5",
    ]
    process = subprocess.Popen([PYTHON, "-c", GRID, programs.python(), TOOL, *words])
    seen, deadline = {}, time.monotonic() + 60
    while len(seen) < 2 and time.monotonic() < deadline:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process is gone
                out = folder.joinpath("cmdline").read_bytes().split(b"\0")[-2:-1]
                settings = folder.joinpath("environ").read_bytes().decode().split("\0")
                if out and out[0].startswith(str(tmp_path / "cells").encode()):
                    seen[out[0]] = [word for word in settings if word.startswith("CUDA_VISIBLE_DEVICES=")]
    process.terminate()
    process.wait(30)
    assert sorted(seen.values()) == [["CUDA_VISIBLE_DEVICES=3"], ["CUDA_VISIBLE_DEVICES=5"]]


def test_a_cell_that_does_not_fit_is_not_started(grid_file, finished, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    slow = result(finished, "random") | {"seconds": 3600.0}
    (tmp_path / "results/3_4-all-random-0.json").write_text(json.dumps(slow))
    words = [
        str(grid_file),
        "--output",
        str(tmp_path),
        "--only",
        "random,count_all",
        *ONE,
        "--max-minutes",
        "5",
    ]
    assert osal("benchmark", *words) == OUT_OF_TIME
    assert "no cell fits" in capsys.readouterr().out and not (tmp_path / "cells").exists()


def test_a_failed_cell_is_reported_and_the_others_go_on(grid_file, tmp_path, capsys):
    words = [str(grid_file), "--output", str(tmp_path), "--only", "random,full", *ONE]
    stranger = tmp_path / "cells/3_4/all/random/0"
    stranger.mkdir(parents=True)
    (stranger / "run.json").write_text("{}")
    assert osal("benchmark", *words) == 1
    assert "failed: 3_4/all/random/0: exit code 1: error: " in capsys.readouterr().err
    assert result(tmp_path, "full")["strategy"] == "random"


def test_a_strategy_that_does_not_exist_fails_at_list(grid_file, tmp_path, capsys):
    grid = grid_file.with_name("wrong.yaml")
    grid.write_text(grid_file.read_text().replace("STRATEGY: count_all", "STRATEGY: telepathy"))
    assert osal("benchmark", grid, "--output", tmp_path, "--list") == 1
    error = capsys.readouterr().err
    assert "3_4/all/count_all/0 (and 3 more cells)" in error and "telepathy" in error


def test_the_list_names_cells_in_order_with_their_state(grid_file, finished, capsys):
    assert osal("benchmark", grid_file, "--output", finished, "--list") == 0
    lines = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        ["done", "3_4/all/random/0"], ["to do", "3_4/all/count_all/0"], ["done", "3_4/all/full/0"],
        ["to do", "1_6/all/random/0"],
    ]  # fmt: skip
    assert len(lines) == 12 and lines[6][1] == "3_4/all/random/1"


@pytest.mark.parametrize("starts", [["random,count_all"], ["random", "count_all"]], ids=["at_once", "later"])
def test_round_0_is_trained_once_where_the_recipe_is_the_same(grid_file, tmp_path, starts):
    grid = grid_file.with_name("sharing.yaml")
    grid.write_text(grid_file.read_text().replace("STRATEGY: count_all", "STRATEGY: utss"))
    for methods in starts:
        words = [str(grid), "--output", str(tmp_path), "--jobs", "2", "--only", methods, *ONE]
        assert osal("benchmark", *words) == 0
    first, second = (result(tmp_path, method)["rounds"][0] for method in ("random", "count_all"))
    for key in ("mAP50", "AP", "aose", "labelled_tiles", "per_class"):
        assert first[key] == second[key]
    assert first["seconds"]["train"] == second["seconds"]["train"], "the cost of the one training"
    assert (
        second["passes"] == {"target": result(tmp_path, "random")["train_tiles"] - 4}
        and first["passes"] == {}
    )
    console = (tmp_path / "cells/3_4/all/count_all/0/console.txt").read_text()
    assert "round 0 is not trained" in console and "round 0 of 1" not in console
    assert not list(tmp_path.rglob("round_0.pth")), "nobody needs it any more"
