"""ROI heads of a project and ours in one class: what is kept, what is refused, and in which order."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.export.torchscript import scripting_with_instances
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads, build_model
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.utils.events import EventStorage
from torch import nn

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.fast_rcnn import OpenSetFastRCNNOutputLayers
from osal_detectron2.modeling.meta_arch import check_architecture
from osal_detectron2.modeling.roi_heads import OpenSetRes5ROIHeads, OpenSetStandardROIHeads


class KeywordHeads(StandardROIHeads):
    """Made from keywords, with another mask branch."""

    def _forward_mask(self, features, instances):
        return {"loss_mine": features["p2"].sum() * 0} if self.training else instances


class Layer:
    """Made from (cfg, input_shape), as the heads of TridentNet and DensePose, with a layer of its own."""

    def __init__(self, cfg, input_shape):
        super().__init__(cfg, input_shape)
        self.mine = nn.Linear(1, 1)

    def forward(self, images, features, proposals, targets=None):
        found, losses = super().forward(images, features, proposals, targets)
        return found, {**losses, "loss_mine": self.mine.weight.sum()} if self.training else losses


class CfgHeads(Layer, StandardROIHeads):
    pass


class CfgRes5Heads(Layer, Res5ROIHeads):
    pass


class Res5Heads(Res5ROIHeads):
    """A forward of its own, made from keywords."""

    def forward(self, images, features, proposals, targets=None):
        return super().forward(images, features, proposals, targets)


class BoxHeads(StandardROIHeads):
    """A box branch that goes on with the one behind it."""

    def _forward_box(self, features, proposals):
        found = super()._forward_box(features, proposals)
        return {**found, "loss_mine": found["loss_cls"] * 0} if self.training else found


class SelfishBoxHeads(StandardROIHeads):
    """A box branch that does not."""

    def _forward_box(self, features, proposals):
        return StandardROIHeads._forward_box(self, features, proposals)


class Predictor(FastRCNNOutputLayers):
    """Scores of its own."""

    def predict_probs(self, predictions, proposals):
        return [scores * 0.5 for scores in super().predict_probs(predictions, proposals)]


class PredictorOfBoth(OpenSetFastRCNNOutputLayers, Predictor):
    """The same, that says which region a detection comes from."""


class PredictorHeads(StandardROIHeads):
    predictor = Predictor

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        return {**ret, "box_predictor": cls.predictor(cfg, ret["box_head"].output_shape)}


@pytest.fixture
def detector(request, toy_cfg):
    """detector(*bases, **body): a plain detector whose ROI heads have these bases."""

    def make(*bases, **body):
        c4 = any(issubclass(base, Res5ROIHeads) for base in bases)
        cfg = request.getfixturevalue("c4_cfg") if c4 else toy_cfg
        heads = type("MixedHeads", bases, body)
        ROI_HEADS_REGISTRY._obj_map["MixedHeads"] = heads
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = "GeneralizedRCNN", "MixedHeads"
        return build_model(cfg)

    yield make
    ROI_HEADS_REGISTRY._obj_map.pop("MixedHeads", None)


def losses_and_detections(model, make_input):
    with EventStorage():
        losses = model.train()([make_input(0, 1)])
    with torch.no_grad():
        (found,) = model.eval()([make_input(0, 1)])
    return losses, found["instances"]


@pytest.mark.parametrize(
    "bases",
    [
        (OpenSetStandardROIHeads, KeywordHeads),
        (KeywordHeads, OpenSetStandardROIHeads),
        (CfgHeads, OpenSetStandardROIHeads),
        (CfgRes5Heads, OpenSetRes5ROIHeads),
        (BoxHeads, OpenSetStandardROIHeads),
    ],
)
def test_both_do_their_part(detector, make_input, bases):
    losses, found = losses_and_detections(detector(*bases), make_input)
    assert "loss_mine" in losses and len(found) == len(found.cls_uncertainty) == len(found.loc_tightness) > 5


def test_a_method_of_the_mixed_class_itself_goes_on_with_ours(detector, make_input):
    model = detector(
        OpenSetStandardROIHeads,
        _forward_box=lambda self, *args: OpenSetStandardROIHeads._forward_box(self, *args),
    )
    assert len(losses_and_detections(model, make_input)[1].cls_uncertainty) > 5


@pytest.mark.parametrize(
    "bases, what",
    [
        ((OpenSetStandardROIHeads, CfgHeads), r"Layer is made from \(cfg, input_shape\); name it first"),
        (
            (OpenSetStandardROIHeads, BoxHeads),
            "_forward_box of BoxHeads would not be used; name BoxHeads first",
        ),
        ((OpenSetRes5ROIHeads, Res5Heads), "forward of Res5Heads would not be used; name Res5Heads first"),
        (
            (OpenSetStandardROIHeads, PredictorHeads),
            "box predictor is Predictor.*derive it from .*OpenSetFastRCNN",
        ),
        (
            (PredictorHeads, OpenSetStandardROIHeads),
            "box predictor is Predictor.*derive it from .*OpenSetFastRCNN",
        ),
    ],
)
def test_what_would_be_dropped_is_refused_when_the_model_is_built(detector, bases, what):
    with pytest.raises(ConfigError, match=f"^MixedHeads: .*{what}"):
        detector(*bases)


@pytest.mark.parametrize("training", [True, False])
def test_a_box_branch_that_passes_ours_over_is_refused_at_the_first_step(detector, make_input, training):
    model = detector(SelfishBoxHeads, OpenSetStandardROIHeads).train(training)
    with pytest.raises(ConfigError, match=r"passed over; let _forward_box .* call super\(\)._forward_box"):
        with EventStorage():
            model([make_input(0, 1)])


def test_a_predictor_of_both_is_kept(detector, make_input):
    model = detector(OpenSetStandardROIHeads, PredictorHeads, predictor=PredictorOfBoth)
    assert type(model.roi_heads.box_predictor) is PredictorOfBoth
    _, found = losses_and_detections(model, make_input)
    halved = found.logits.softmax(dim=1)[torch.arange(len(found)), found.pred_classes] / 2
    torch.testing.assert_close(found.scores, halved)
    assert found.has("cls_uncertainty")


def test_a_predictor_that_is_no_evidential_classifier_is_refused_where_one_is_asked_for(toy_cfg, detector):
    toy_cfg.OSAL.EVIDENCE.MODE = "edl"
    with pytest.raises(
        ConfigError, match="is no evidential classifier; derive it from .*EvidentialOutputLayers"
    ):
        detector(OpenSetStandardROIHeads, PredictorHeads, predictor=PredictorOfBoth)


def test_rotated_boxes_are_refused_by_name(toy_cfg):
    cfg = toy_cfg
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    for key, value in (("PROPOSAL_GENERATOR", "RRPN"), ("ROI_HEADS", "RROIHeads")):
        rotated = cfg.clone()
        rotated.MODEL[key].NAME = value
        with pytest.raises(ConfigError, match=f"MODEL.{key}.NAME {value} is for rotated boxes.*take RPN"):
            check_architecture(rotated)
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RRPN"
    cfg.MODEL.ANCHOR_GENERATOR.NAME, cfg.MODEL.ANCHOR_GENERATOR.ANGLES = "RotatedAnchorGenerator", [[0, 45]]
    cfg.MODEL.RPN.BBOX_REG_WEIGHTS = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (1, 1, 1, 1, 1)
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignRotated"
    with pytest.raises(ConfigError, match="RRPN is for rotated boxes"):
        build_model(cfg)


def test_point_rend_with_one_more_class_names_both_keys(toy_cfg):
    cfg = toy_cfg
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = (
        "GeneralizedRCNN",
        OpenSetStandardROIHeads.__name__,
    )
    cfg.MODEL.MASK_ON, cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = True, True
    cfg.MODEL.POINT_HEAD = CfgNode({"NUM_CLASSES": 80})
    with pytest.raises(
        ConfigError, match="POINT_HEAD.NUM_CLASSES is 80, but MODEL.ROI_HEADS.NUM_CLASSES 3.*to 3, too"
    ):
        build_model(cfg)


def test_scripting_says_what_to_do_instead(detector):
    model = detector(OpenSetStandardROIHeads).eval()
    with pytest.raises(ConfigError, match="MixedHeads cannot be scripted: trace the detector"):
        scripting_with_instances(model, {"scores": torch.Tensor})
