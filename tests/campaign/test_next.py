"""`osal campaign next` in a miniature: it trains from the records, asks for a batch, and takes it in."""

import json
import re

import programs
import pytest
from test_begin import answer

from osal_detectron2.campaign.verify import verify_campaign
from osal_detectron2.oracles.status import run_status


@pytest.fixture
def ready(campaign):
    """A campaign whose first and test tiles are labelled, with a config of a few iterations."""
    for name in ("first", "test"):
        answer(campaign.folder / name)
    assert programs.osal("campaign", "next", campaign.folder, "--no-training") == 0
    config = campaign.folder / "config.yaml"
    small = {
        "SOLVER": {"IMS_PER_BATCH": 1},
        "OSAL": {"STRATEGY": "random", "SCHEDULE": {"MIN_ITERS": 1, "EPOCHS": 0.0}},
    }
    small["OSAL"] |= {
        "EVAL": {"CURVES": False, "GALLERY_TILES": 0},
        "BUDGET": {"QUERY": 72.0, "NUM_QUERIES": 1},
    }
    config.rename(campaign.folder / "proposed.yaml")
    config.write_text(json.dumps({"_BASE_": "proposed.yaml", **small}))
    return campaign


def test_next_trains_and_asks_until_the_plan_is_done(ready):
    def osal(*words):
        return programs.run(["-m", "osal_detectron2", "campaign", *words], cwd=ready.folder.parent)

    asked = osal("next", ready.folder)
    assert asked.returncode == 0, asked.stderr
    assert re.search(r"0 of \d+ tiles labelled", asked.stdout)
    assert asked.stdout.splitlines()[-1].startswith("next      osal campaign sync")
    assert (
        "osal campaign sync" in run_status(ready.run) and "osal run import" not in asked.stdout + asked.stderr
    )
    cost = json.loads((ready.run / "rounds/000/selection.json").read_text())["cost"]
    assert (cost["unit"], cost["target"]) == ("seconds", 72.0), "a sitting, whatever the first tiles took"
    metrics = json.loads((ready.run / "rounds/000/metrics.json").read_text())
    assert metrics["test_record"] and "bbox" in metrics
    moved = ready.folder.rename(ready.folder.with_name("elsewhere"))
    again = osal("next", moved)
    assert again.returncode == 0 and "iteration" not in again.stdout, "it waits for labels and trains nothing"
    answer(moved / "run")
    done = osal("next", moved)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 rounds finished" in done.stdout and "--batches 2" in done.stdout.splitlines()[-1]
    assert verify_campaign(moved) == []
