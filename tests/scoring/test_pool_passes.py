"""What a pool scorer keeps and counts, with a real, tiny detector."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from osal_detectron2 import add_osal_config
from osal_detectron2.modeling.meta_arch import target_cfg
from osal_detectron2.scoring.pool import PoolScorer
from osal_detectron2.strategies import Detections, ImageFeatures

KEYS = ("a", "b", "c")


@pytest.fixture(scope="module")
def detector():
    """A very thin R50-C4 with random weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.NORM = "LN"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 10
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetRes5ROIHeads"
    return build_model(target_cfg(cfg))


@pytest.fixture
def scorer(detector):
    def mapper(record):
        rng = torch.Generator().manual_seed(ord(record["image_key"]))
        return {**record, "image": torch.rand(3, 64, 64, generator=rng) * 255, "height": 64, "width": 64}

    return PoolScorer(detector, {k: {"image_key": k} for k in KEYS}, mapper=mapper, batch_size=2)


def test_passes_are_counted_in_the_terms_of_the_cost_table(scorer):
    scorer.run(Detections(over=KEYS, fields=("logits",)))
    scorer.run(ImageFeatures(over=KEYS[:2]))
    assert scorer.passes == {"target": 3, "target backbone": 2}
    scorer.run(Detections(over=KEYS, fields=("logits",)))
    scorer.run(ImageFeatures(over=KEYS))
    assert scorer.passes == {"target": 3, "target backbone": 3}, "a tile is passed once for the same question"


def test_each_image_feature_is_kept_apart(scorer):
    """A C4 model reads one map only, so both are equal in value, but neither may answer for the other unasked."""
    last = scorer.run(ImageFeatures(over=KEYS))
    read = scorer.run(ImageFeatures(over=KEYS, feature="fpn"))
    assert scorer.passes == {"target backbone": 6}
    for key in KEYS:
        assert set(last[key]) == {"image_feature"}
        assert np.allclose(last[key]["image_feature"], read[key]["image_feature"])
    assert not np.allclose(last["a"]["image_feature"], last["b"]["image_feature"])
