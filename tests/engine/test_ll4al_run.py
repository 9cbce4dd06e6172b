"""What is particular to a run whose target predicts its loss; test_variants.py runs the rest of it."""

import json
import shutil

import numpy as np
import pytest
import torch
from miniature import train

LL4AL = ("OSAL.STRATEGY", "ll4al")


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """A run whose weights continue from round to round."""
    folder = tmp_path_factory.mktemp("ll4al") / "run"
    options = ("OSAL.BUDGET.NUM_QUERIES", 1, "OSAL.SCHEDULE.WEIGHTS_PER_ROUND", "continue")
    options += ("OSAL.EVIDENCE.MODE", "branch")
    assert train(tiny_config, "OUTPUT_DIR", folder, *LL4AL, *options) == 0
    return folder


def preview(config, folder, strategy, copy):
    """What `strategy` would query in round 0 of a copy of the run in `folder`."""
    shutil.copytree(folder, copy)
    for round_folder in (copy / "rounds").glob("0*"):
        shutil.rmtree(round_folder)
    return train(config, "OUTPUT_DIR", copy, "OSAL.STRATEGY", strategy, flags=("--dry-run",))


def test_it_queries_the_largest_predictions_and_counts_each_round_anew(finished):
    with np.load(finished / "rounds/000/scores.npz") as scores:
        predicted, selected = scores["predicted_loss"], scores["selected"]
    assert len(np.unique(predicted)) > 4 and selected.sum() == 4
    assert predicted[selected].min() >= predicted[~selected].max() - 1e-5
    model = torch.load(finished / "model_final.pth", weights_only=True)["model"]
    clocks = {name: int(value) for name, value in model.items() if name.endswith(".steps")}
    assert len(clocks) == 2 and set(clocks.values()) == {
        4
    }  # of the head, and of the annealing of the evidence
    config = json.loads((finished / "run.json").read_text())["config"]
    assert config["MODEL.META_ARCHITECTURE"] == "LossPredictionRCNN"


def test_other_strategies_can_look_through_its_target(tiny_config, finished, tmp_path, capsys):
    assert preview(tiny_config, finished, "utss", tmp_path / "copy") == 0
    assert "box uncertainty" in capsys.readouterr().out


def test_a_run_without_the_head_has_no_prediction_to_show(tiny_config, reference, tmp_path, capsys):
    assert preview(tiny_config, reference, "ll4al", tmp_path / "copy") == 1
    assert "LossPredictionRCNN" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("SOLVER.IMS_PER_BATCH", 3), "SOLVER.IMS_PER_BATCH"),
        (("OSAL.DATA.UNKNOWN_POLICY", "ignore"), "policy drop"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_is_made(tiny_config, tmp_path, capsys, options, message):
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, *LL4AL, *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.json").exists()
