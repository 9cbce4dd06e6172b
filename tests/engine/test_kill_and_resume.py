"""kill -9 at any instant, then --resume: the same record and the same weights as a run that nobody killed."""

import os
import random
import shutil
import signal
import time

import pytest
import torch
from miniature import command, record

from osal_detectron2.core.annotation_cost import AnnotationCost
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.core.store import read_json
from osal_detectron2.core.verify import verify
from osal_detectron2.oracles.status import run_status


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_a_kill_before_the_final_checkpoint_is_mended(tiny_config, reference, start, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    (folder / "model_final.pth").unlink()
    last = max(folder.glob("model_*.pth"))
    (folder / "last_checkpoint").write_text(last.name)
    process = start(tiny_config, ["OUTPUT_DIR", folder], ("--resume",))
    process.join()
    assert process.exitcode == 0
    mine, final = weights(folder), weights(reference)
    assert all(torch.equal(mine[k], final[k]) for k in final)


@pytest.mark.parametrize("flag", ["--resume", "--dry-run"])
def test_a_run_without_its_checkpoint_is_refused_and_left_alone(tiny_config, reference, tmp_path, flag):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    for path in folder.glob("*.pth"):
        path.unlink()
    done = command(tiny_config, "OUTPUT_DIR", folder, flags=(flag,))
    assert done.returncode == 1
    assert "round 2 is committed" in done.stderr and "start over in a new OUTPUT_DIR" in done.stderr
    assert record(folder) == record(reference) and not list(folder.glob("*.pth"))


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_random_kills_change_nothing(tiny_config, reference, start, tmp_path, times):
    expected, final = record(reference), weights(reference)
    began = time.perf_counter()
    process = start(tiny_config, ["OUTPUT_DIR", tmp_path / "timed"])
    process.join()
    whole = time.perf_counter() - began
    assert record(tmp_path / "timed") == expected, "two uninterrupted runs differ"
    rng = random.Random(times)
    kills = run = 0
    while kills < times:
        folder, run = tmp_path / str(run), run + 1
        while True:
            process = start(tiny_config, ["OUTPUT_DIR", folder], ("--resume",))
            process.join(rng.uniform(0.1, 0.6) * whole)
            if process.exitcode is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        assert process.exitcode == 0
        assert record(folder) == expected
        assert verify(folder) == []
        mine = weights(folder)
        assert all(torch.equal(mine[k], final[k]) for k in final) and mine.keys() == final.keys()
        assert not list(folder.rglob(".osal-tmp-*"))


def test_a_budget_in_seconds_is_filled_settled_and_survives_kills(tiny_config, start, tmp_path):
    seconds = ["OSAL.STRATEGY", "random", "OSAL.BUDGET.UNIT", "seconds", "OSAL.BUDGET.QUERY", 150.0]
    whole = time.perf_counter()
    process = start(tiny_config, ["OUTPUT_DIR", tmp_path / "whole", *seconds])
    process.join()
    whole = time.perf_counter() - whole
    assert process.exitcode == 0 and verify(tmp_path / "whole") == []
    expected, rng = record(tmp_path / "whole"), random.Random(0)
    for _ in range(3):
        process = start(tiny_config, ["OUTPUT_DIR", tmp_path / "killed", *seconds], ("--resume",))
        process.join(rng.uniform(0.2, 0.7) * whole)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
    process = start(tiny_config, ["OUTPUT_DIR", tmp_path / "killed", *seconds], ("--resume",))
    process.join()
    assert process.exitcode == 0
    assert record(tmp_path / "killed") == expected and verify(tmp_path / "killed") == []

    rounds = tmp_path / "killed" / "rounds"
    commits = [read_json(rounds / name / "commit.json")["cost"] for name in ("init", "000", "001")]
    assert "cost" not in read_json(rounds / "002" / "commit.json"), "nothing is asked for in the last round"
    cost, spent = AnnotationCost(), 0.0
    init = commits[0]["target"]  # four tiles with as many nuclei as one has on the average
    for number, commit in enumerate(commits):
        assert commit["unit"] == "seconds"
        # What was spent too much or too little is settled with the next query.
        assert commit["target"] == pytest.approx(init + 150 * number - spent, abs=0.01)
        labels = LabelFile.read(rounds / ("init", "000", "001")[number] / "labels.json").tiles
        assert commit["true"] == pytest.approx(sum(map(cost.of, labels.values())), abs=0.01)
        spent += commit["true"]
    run = tmp_path / "killed"
    assert f"budget    {spent:,.0f} of {init + 300:,.0f} seconds" in run_status(run)
    refused = command(
        tiny_config, "OUTPUT_DIR", run, "OSAL.ORACLE.SECONDS_PER_TILE", 99.0, flags=("--resume",)
    )
    assert refused.returncode == 1 and "OSAL.ORACLE.SECONDS_PER_TILE" in refused.stderr
