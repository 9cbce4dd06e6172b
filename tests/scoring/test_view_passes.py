"""Passes of a real detector over views: detections in pixels of the view, whatever the batch."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from view_tiles import mapper, seen, write

import osal_detectron2.registration  # noqa: F401  (the heads and backbones)
from osal_detectron2 import add_osal_config
from osal_detectron2.scoring.pool import PoolScorer
from osal_detectron2.strategies import Detections


@pytest.fixture(scope="module")
def detector():
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_torchvision_fpn_backbone"
    cfg.MODEL.TORCHVISION.NORM = "GN"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return build_model(cfg)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five tiles of two sizes."""
    folder, rng = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)
    sizes = [(64, 96), (64, 96), (80, 64), (64, 96), (80, 64)]
    made = [
        write(folder, rng.integers(0, 256, (*s, 3), dtype=np.uint8), f"{i}.png") for i, s in enumerate(sizes)
    ]
    return {r["image_key"]: r for r in made}


def request(records, view, boxes=((10.0, 10.0, 40.0, 30.0),)):
    reference = {k: np.array(boxes).reshape(-1, 4) for k in records}
    return Detections(over=tuple(records), view=view, fields=("logits",), reference=reference)


@pytest.mark.parametrize("view", ["noise:8", "cutout", "downscale:0.8", "rotate:5"])
def test_a_pass_over_a_view_does_not_depend_on_the_batch_or_the_order(detector, records, view):
    tables = []
    for batch_size, keys in ((1, list(records)), (4, list(records)[::-1])):
        scorer = PoolScorer(detector, {k: records[k] for k in keys}, mapper=mapper(96), batch_size=batch_size)
        tables.append(scorer.run(request({k: records[k] for k in keys}, view), seed=3, round_index=1))
        assert scorer.passes == {"target": 5}
    for key in records:
        one, many = tables[0][key], tables[1][key]
        assert len(one["scores"]) > 0
        assert set(one) == {"boxes", "scores", "classes", "logits", "reference"}
        for column in one:
            assert one[column] == pytest.approx(many[column], abs=1e-3)


@pytest.mark.parametrize("view", ["downscale:0.5", "hflip", "rotate:5"])
def test_detections_are_in_pixels_of_the_view(detector, records, tmp_path, view):
    """They are those on a file with the pixels of the view, brought from the size of the input to the view's."""
    scorer = PoolScorer(detector, records, mapper=mapper(96), batch_size=2)
    table = scorer.run(request(records, view))
    for key in ("0.png", "2.png"):
        item = seen(records[key], view, short_edge=96)
        stored = write(tmp_path, item["image"].permute(1, 2, 0).numpy(), key)
        direct = PoolScorer(detector, {key: stored}, mapper=mapper()).run(Detections(over=(key,)))[key][
            "boxes"
        ]
        scale = item["width"] / stored["width"], item["height"] / stored["height"]
        assert scale[0] < 0.8 and len(direct)
        assert table[key]["boxes"] == pytest.approx(direct * np.tile(scale, 2), abs=1e-3)


def test_views_and_references_are_never_taken_from_an_earlier_pass(detector, records):
    scorer = PoolScorer(detector, records, mapper=mapper(96), batch_size=2)
    clean = scorer.run(Detections(over=tuple(records), fields=("logits",)))
    assert "reference" not in clean["0.png"]
    again = scorer.run(Detections(over=tuple(records), fields=("logits",)))
    assert scorer.passes["target"] == 5 and again["0.png"]["boxes"] is clean["0.png"]["boxes"]
    noisy = {s: scorer.run(Detections(over=tuple(records), view="noise:48"), seed=s) for s in (0, 1)}
    assert not np.array_equal(noisy[0]["0.png"]["scores"], noisy[1]["0.png"]["scores"])
    other = scorer.run(request(records, "cutout", boxes=[(0.0, 0.0, 20.0, 20.0), (30.0, 30.0, 60.0, 60.0)]))
    assert len(other["0.png"]["reference"]) == 2
    third = scorer.run(request(records, "cutout"))
    assert len(third["0.png"]["reference"]) == 1
    assert scorer.passes == {"target": 25}
