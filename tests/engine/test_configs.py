"""Every shipped config loads, builds its models and names only files and keys that exist."""

from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from osal_detectron2 import add_osal_config
from osal_detectron2.engine.plan import build_strategy
from osal_detectron2.scoring.pool import check_needs

_ROOT = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = sorted(
    p for p in _ROOT.rglob("*.yaml") if p.parent.name != "benchmarks"
)  # those are grids of configs


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_builds_a_model_that_serves_its_strategy(path):
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.merge_from_file(str(path))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.TORCHVISION.WEIGHTS = ""
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    check_needs(build_strategy(cfg), build_model(cfg))
    assert cfg.TEST.DETECTIONS_PER_IMAGE >= 300


def test_detectron2s_own_defaults_stay_untouched():
    before = get_cfg().dump()
    add_osal_config(get_cfg())
    assert get_cfg().dump() == before
