"""What the rounds ask of a model: two detectors, one of ours, one with the head alone, one without anything of ours."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from torch import nn

from osal_detectron2 import add_osal_config
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.detectors import Detectors
from osal_detectron2.modeling.meta_arch import OSALRCNN
from osal_detectron2.modeling.round_clock import RoundClock
from osal_detectron2.scoring.pool import check_needs
from osal_detectron2.strategies import get_strategy


def one(cfg, architecture="GeneralizedRCNN", heads="OpenSetStandardROIHeads"):
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = architecture, heads
    return build_model(cfg)


def test_a_model_of_two_detectors(toy_cfg):
    model = build_model(toy_cfg)
    found = Detectors(model)
    assert isinstance(model, OSALRCNN) and found.model is model
    assert (found.named("target"), found.named("auxiliary")) == (model.target, model.auxiliary)
    assert (found.num_known, found.num_unknown, found.auxiliary_classes) == (3, 0, "known_unknown")
    assert found.open_set_inputs and found.prototypes is model.auxiliary.roi_heads.box_branches["prototype"]
    assert {"cls_uncertainty", "loc_tightness"} <= set(found.fields("target")) - {"dist_known"}
    assert {"dist_known", "dist_unknown"} <= set(found.fields("auxiliary"))


class TheirTwo(nn.Module):
    """Of a project that has another loop around two detectors; nothing else of OSALRCNN."""

    def __init__(self, target, auxiliary):
        super().__init__()
        self.target, self.auxiliary = target, auxiliary


def test_two_detectors_in_a_model_of_somebody_s_own(toy_cfg):
    model = build_model(toy_cfg)
    found = Detectors(TheirTwo(model.target, model.auxiliary))
    assert found.target is model.target and found.auxiliary is model.auxiliary and found.num_known == 3
    assert not found.open_set_inputs, "nobody said that it takes class K"


def test_a_detector_with_the_plugged_in_head_alone(toy_cfg):
    model = one(toy_cfg)
    found = Detectors(model)
    assert found.target is found.model is model and found.auxiliary is None and found.prototypes is None
    assert found.num_known == 3 and not found.open_set_inputs
    check_needs(get_strategy("utss"), model)
    with pytest.raises(ConfigError, match="needs the auxiliary detector, but GeneralizedRCNN has none"):
        check_needs(get_strategy("osal_nd"), model)


def test_a_detector_with_nothing_of_ours(toy_cfg):
    model = one(toy_cfg, heads="StandardROIHeads")
    assert Detectors(model).fields("target") == () and Detectors(model).num_unknown == 0
    check_needs(get_strategy("random"), model)
    with pytest.raises(ConfigError, match="cls_uncertainty.*which StandardROIHeads does not write"):
        check_needs(get_strategy("utss"), model)


def test_a_detector_that_predicts_its_loss(toy_cfg):
    assert "predicted_loss" in Detectors(one(toy_cfg, "LossPredictionRCNN")).fields("target")
    with pytest.raises(ConfigError, match="predicts its loss"):
        check_needs(get_strategy("ll4al"), one(toy_cfg))


def test_a_network_without_roi_heads_is_its_own_target(toy_cfg):
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", "ProposalNetwork"
    model = build_model(cfg)
    assert Detectors(model).target is model and Detectors(model).num_unknown == 0
    with pytest.raises(
        ConfigError, match="needs ROI heads in the target detector, and ProposalNetwork has none"
    ):
        check_needs(get_strategy("utss"), model)


def test_ddp_is_taken_off(toy_cfg, tmp_path):
    model = build_model(toy_cfg)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
        found = Detectors(wrapped)
        assert found.model is model and found.auxiliary is model.auxiliary and found.open_set_inputs
    finally:
        torch.distributed.destroy_process_group()


def test_a_model_with_an_attribute_named_module_is_not_taken_apart(toy_cfg):
    model = one(toy_cfg)
    model.module = nn.Linear(1, 1)
    assert Detectors(model).target is model


@pytest.mark.parametrize("fresh", [True, False])
def test_a_round_begins_in_every_part_of_the_model(toy_cfg, fresh):
    model = build_model(toy_cfg)
    prototypes = Detectors(model).prototypes
    prototypes.initialised.fill_(True)
    Detectors(model).begin_round(round_iters=40, step=7, fresh=fresh)
    clocks = [m for m in model.modules() if isinstance(m, RoundClock)]
    assert clocks and {(int(c.steps), c.round_iters) for c in clocks} == {(7, 40)}
    assert bool(prototypes.initialised.any()) is not fresh
