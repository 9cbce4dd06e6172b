"""`osal data config`: what it proposes for which data, and that every value is explained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from miniature_set import KNOWN
from programs import osal

from osal_detectron2 import add_osal_config
from osal_detectron2.data.detector_fit import best_anchor_iou
from osal_detectron2.data.proposal import anchor_sizes, budget, input_size, strategy
from osal_detectron2.data.proposed_config import identify


def make(*arguments) -> int:
    return osal("data", "config", *arguments, "--device", "cpu")


def load(path):
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


@pytest.fixture
def given(mini):
    """Arguments for the miniature set, and where the config goes."""
    mini.arguments()
    out = mini.folder / "my.yaml"
    return ["--json", mini.folder / "train.json", "--known", *KNOWN, "--out", out], out


def test_the_config_names_data_and_machine_and_gives_a_reason_for_every_value(given, mini, capsys):
    arguments, out = given
    assert make(*arguments, "--test-json", mini.folder / "test.json") == 0
    assert f"next: osal train --config-file {out}" in capsys.readouterr().out
    cfg = load(out)
    data = cfg.OSAL.DATA
    assert (cfg.MODEL.DEVICE, cfg.OSAL.ORACLE.NAME, list(data.KNOWN_CLASSES)) == ("cpu", "simulated", KNOWN)
    assert (data.TRAIN_JSON, data.TEST_JSON) == (f"{mini.folder}/train.json", f"{mini.folder}/test.json")
    assert data.TRAIN_IMAGE_ROOT == data.TEST_IMAGE_ROOT == str(mini.folder)
    assert cfg.OSAL.STRATEGY == "osal_nd_plus", "a third of the boxes is unknown"
    lines = out.read_text().splitlines()
    values = [
        n for n, line in enumerate(lines) if not line.lstrip().startswith("#") and not line.endswith(":")
    ]
    assert len(values) > 15
    assert all(lines[n - 1].lstrip().startswith("# ") for n in values), "no value without its reason"
    assert "behind random" in out.read_text(), "the paper's rule and why another one is proposed"


def test_a_file_is_replaced_only_when_asked(given, capsys):
    arguments, out = given
    out.write_text("mine")
    assert make(*arguments) == 1 and out.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert make(*arguments, "--force") == 0 and load(out).OSAL.DATA.TEST_JSON == ""


def test_a_folder_of_images_is_for_people_to_label(mini, capsys):
    out = mini.folder / "new" / "my.yaml"
    assert make("--images", mini.folder, "--known", *KNOWN, "--nucleus-size", 40, "--out", out) == 0
    cfg, data = load(out), json.loads(out.with_suffix(".json").read_text())
    assert cfg.OSAL.ORACLE.NAME == "human" and cfg.OSAL.DATA.TRAIN_JSON == str(out.with_suffix(".json"))
    assert [category["name"] for category in data["categories"]] == [*KNOWN, "other"]
    assert [i["file_name"] for i in data["images"]][:2] == ["test1.png", "test2.png"] and data[
        "annotations"
    ] == []
    assert {(i["width"], i["height"]) for i in data["images"]} == {(60, 40)}
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES[0][0] > 16
    assert make("--images", mini.folder / "absent", "--known", "a", "--out", out, "--force") == 1
    assert "no such folder" in capsys.readouterr().err


def test_tiles_with_labels_are_where_people_start(given, mini):
    arguments, out = given
    mini.train["annotations"] = mini.train["annotations"][:2]
    mini.arguments()
    assert make(*arguments, "--oracle", "human") == 0
    assert Path(load(out).OSAL.BUDGET.INIT_FILE).read_text() == "train1.png\ntrain2.png\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--known", "tumour"], "did you mean 'tumor'?"),
        (["--known"], None),
        (["--images", "x"], "give --json, or --images"),
        (["--weights", "absent.pth"], "--weights: there is no file 'absent.pth'"),
        (["--json", "."], "is a folder, not a COCO JSON; osal data config --images"),
    ],
)
def test_what_cannot_be_is_one_line(given, change, words, capsys):
    arguments, out = given
    if words is None:
        assert make(*arguments, *change) == 2
        return
    assert make(*arguments, *change) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1 and not out.exists()


def test_weights_say_which_network_they_are_of(given, mini):
    arguments, out = given
    network = torchvision.models.get_model("resnet18", weights=None)
    network.bn1.running_mean += 0.1  # a trained one
    torch.save(network.state_dict(), mini.folder / "mine.pth")
    assert make(*arguments, "--weights", mini.folder / "mine.pth") == 0
    cfg = load(out)
    assert (cfg.MODEL.TORCHVISION.NAME, cfg.MODEL.TORCHVISION.NORM) == ("resnet18", "frozen")
    assert cfg.MODEL.PIXEL_MEAN == pytest.approx([123.675, 116.28, 103.53])
    assert cfg.MODEL.TORCHVISION.WEIGHTS == str(mini.folder / "mine.pth")
    with pytest.raises(Exception, match="does not fit resnet34"):
        identify(str(mini.folder / "mine.pth"), "resnet34")


@pytest.mark.parametrize("side", [6, 17, 60])
def test_anchors_fit_the_nuclei_after_the_resize(side):
    rng = np.random.default_rng(0)
    sides = side * rng.lognormal(0, 0.3, (500, 1)) * rng.lognormal(0, 0.15, (500, 2))
    size, _ = input_size(sides, 250)
    scale = size / 250 if size else 1.0
    assert 12 <= np.median(sides) * scale <= 40
    anchors, why = anchor_sizes(sides * scale)
    flat = [size for (size,) in anchors]
    assert (best_anchor_iou(sides * scale, flat, (0.5, 1.0, 2.0)) >= 0.5).mean() > 0.95
    assert flat == sorted(flat) and all(2 * a >= 3 * s for a, s in zip(flat, (4, 8, 16, 32, 64)))


def test_the_rule_depends_on_the_unknown_nuclei_and_the_budget_on_the_pool():
    assert [strategy(share).value for share in (None, 0.5, 0.15, 0.02)] == ["osal_nd_plus"] * 3 + ["random"]
    for total in (1, 5, 24, 432, 9000):
        first, query, queries = (s.value for s in budget(total, nuclei_per_tile=30, small=True, people=False))
        assert 1 <= first <= total and 1 <= query <= total and queries <= 3
        assert total < 24 or first + queries * query <= total
