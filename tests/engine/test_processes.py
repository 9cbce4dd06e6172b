"""Batch size, loader workers and processes: a matter of cost, never of what is selected."""

import json
import os
import shutil
import signal
import threading
import time

import pytest
from miniature import SEMI, command, record

from osal_detectron2.core.verify import verify


@pytest.fixture(scope="module")
def open_round(reference, tmp_path_factory):
    """The reference run with the query of round 1 still to make."""
    folder = tmp_path_factory.mktemp("open") / "run"
    shutil.copytree(reference, folder)
    for name in ("001", "002"):
        shutil.rmtree(folder / "rounds" / name)
    return folder


def preview(config, folder, *options, flags=()):
    done = command(config, "OUTPUT_DIR", folder, *options, flags=("--dry-run", *flags))
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if " rank " in line]


def test_selection_depends_on_neither_batch_size_nor_workers_nor_processes(tiny_config, open_round):
    plain = preview(tiny_config, open_round)
    assert len(plain) == 4
    assert preview(tiny_config, open_round, "OSAL.SCORING.BATCH_SIZE", 1) == plain
    assert (
        preview(tiny_config, open_round, "OSAL.SCORING.BATCH_SIZE", 7, "DATALOADER.NUM_WORKERS", 2) == plain
    )
    assert preview(tiny_config, open_round, "OSAL.SCORING.BATCH_SIZE", 3, flags=("--num-gpus", "2")) == plain


@pytest.mark.parametrize("backbone", ["own", "shared"])
def test_two_processes_train_query_and_resume(tiny_config, reference, tmp_path, backbone):
    folder = tmp_path / "run"
    policy, unit = {"own": ("drop", "tiles"), "shared": ("class", "seconds")}[backbone]
    options = ("OUTPUT_DIR", folder, "OSAL.AUXILIARY.BACKBONE", backbone, "OSAL.DATA.UNKNOWN_POLICY", policy)
    # With one backbone also a mean teacher, whose tiles the auxiliary does not see.
    options += ("OSAL.BUDGET.UNIT", unit, *(SEMI if backbone == "shared" else ()))
    done = command(tiny_config, *options, flags=("--num-gpus", "2"))
    assert done.returncode == 0, done.stderr
    assert verify(folder) == []
    selection = json.loads((folder / "rounds/001/selection.json").read_text())
    if unit == "tiles":
        assert len(selection["selected"]) == 4 and "cost" not in selection
    else:  # nearer to the price than with a tile of 15 s and some nuclei more or fewer
        assert abs(selection["cost"]["expected"] - selection["cost"]["target"]) < 60
    # The initial draw does not depend on the number of processes.
    initial = "rounds/init/selection.json"
    ours, theirs = (json.loads((run / initial).read_text())["selected"] for run in (folder, reference))
    assert ours == theirs
    shutil.rmtree(folder / "rounds/002")
    again = command(tiny_config, *options, flags=("--num-gpus", "2", "--resume"))
    assert again.returncode == 0, again.stderr
    assert verify(folder) == []


def test_random_selects_the_same_whoever_trains(tiny_config, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, processes in zip(folders, "12"):
        options = ("OUTPUT_DIR", folder, "OSAL.STRATEGY", "random")
        done = command(tiny_config, *options, flags=("--num-gpus", processes))
        assert done.returncode == 0, done.stderr
    one, two = (
        {
            name: data
            for name, data in record(folder).items()
            if name.endswith(("selection.json", "labels.json"))
        }
        for folder in folders
    )
    assert one == two


def test_an_error_in_one_process_ends_all(tiny_config, tmp_path):
    done = command(
        tiny_config,
        "OUTPUT_DIR",
        tmp_path,
        "OSAL.STRATEGY",
        "nonsense",
        flags=("--num-gpus", "2"),
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1 and "error: OSAL.STRATEGY" in done.stderr


def test_a_killed_process_ends_all_and_says_how_to_go_on(tiny_config, tmp_path):
    options = ("OUTPUT_DIR", tmp_path, "OSAL.STRATEGY", "random", "OSAL.SCHEDULE.MIN_ITERS", 12)

    def kill_rank_0():
        while not (tmp_path / "rounds/init/commit.json").exists():
            time.sleep(0.01)
        os.kill(json.loads((tmp_path / ".lock").read_text())["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill_rank_0, daemon=True)
    killer.start()
    done = command(tiny_config, *options, flags=("--num-gpus", "2"), timeout=120)
    assert done.returncode == 1
    assert "error: process 0 of 2 was killed (SIGKILL" in done.stderr and "--resume" in done.stderr
    again = command(tiny_config, *options, flags=("--num-gpus", "2", "--resume"))
    assert again.returncode == 0, again.stderr
    assert verify(tmp_path) == []
