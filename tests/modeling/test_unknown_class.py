"""Unknown nuclei as classes that the target learns and hides (OSAL.DATA.UNKNOWN_POLICY class and classes)."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.fast_rcnn import EvidentialOutputLayers, OpenSetFastRCNNOutputLayers
from osal_detectron2.modeling.meta_arch import check_architecture
from osal_detectron2.modeling.roi_heads import OpenSetStandardROIHeads
from osal_detectron2.modeling.unknown import (
    fold_logits,
    name_unknown,
    num_unknown,
    training_labels,
    unknown_outputs,
)

K = 3
# Softmax probabilities of two known classes, one unknown and the background, as logits.
SURE_KNOWN, SURE_UNKNOWN = [0.6, 0.1, 0.2, 0.1], [0.3, 0.05, 0.6, 0.05]


def logits(*rows):
    return torch.tensor(rows).log()


def predictor(kind=OpenSetFastRCNNOutputLayers, *, num_classes=3, num_unknown=1, **kwargs):
    return kind(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=num_classes,
        num_unknown=num_unknown,
        test_score_thresh=0.08,
        **kwargs,
    )


def proposals(boxes):
    result = Instances((100, 100))
    result.proposal_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    return result


def test_the_known_posteriors_stay_and_the_unknown_ones_join_the_background():
    raw = logits(SURE_KNOWN, SURE_UNKNOWN)
    folded = fold_logits(raw, 1)
    assert folded.softmax(1)[0].tolist() == pytest.approx([0.6, 0.1, 0.3])
    assert folded.softmax(1)[1].tolist() == pytest.approx([0.3, 0.05, 0.65])
    assert torch.equal(folded[:, :2], raw[:, :2])
    # Two unknown classes of e^0 and e^1 and a background of e^2: log(1 + e + e^2).
    two = fold_logits(torch.tensor([[5.0, 0.0, 1.0, 2.0]]), 2)
    assert two.tolist() == [pytest.approx([5.0, math.log(1 + math.e + math.e**2)])]
    assert fold_logits(raw, 0) is raw


def test_a_detection_has_a_known_class_its_posterior_and_that_of_the_unknown():
    boxes = [[0, 0, 20, 20], [50, 50, 70, 70]]
    (found,), (rows,) = predictor().inference(
        (logits(SURE_KNOWN, SURE_UNKNOWN), torch.zeros(2, 12)), [proposals(boxes)]
    )
    assert rows.tolist() == [0, 1, 0] and found.pred_classes.tolist() == [0, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert found.unknown_score.tolist() == pytest.approx([0.2, 0.6, 0.2])
    assert found.pred_boxes.tensor.tolist() == [boxes[0], boxes[1], boxes[0]]


def test_each_known_class_keeps_its_own_box():
    deltas = torch.zeros(1, 12)
    deltas[0, [0, 4, 8]] = torch.tensor([1.0, 2.0, 9.0])  # in tenths of the width: 2, 4 and 18 pixels
    (found,), _ = predictor().inference((logits(SURE_KNOWN), deltas), [proposals([[10, 0, 30, 20]])])
    assert found.pred_boxes.tensor[:, 0].tolist() == pytest.approx([12.0, 14.0])


def test_known_detections_take_the_places_that_unknown_nuclei_would():
    rows = [SURE_UNKNOWN, SURE_UNKNOWN, SURE_KNOWN]
    boxes = proposals([[i * 30, 0, i * 30 + 20, 20] for i in range(3)])
    (found,), (kept,) = predictor(test_topk_per_image=1).inference(
        (logits(*rows), torch.zeros(3, 12)), [boxes]
    )
    assert kept.tolist() == [2] and found.scores.tolist() == pytest.approx([0.6])


def test_an_evidential_classifier_hides_the_class_as_well():
    layer = predictor(EvidentialOutputLayers, activation="relu")
    # alpha = evidence + 1 = 5, 1, 3, 1 of 10.
    (found,), _ = layer.inference(
        (torch.tensor([[4.0, 0, 2, -1]]), torch.zeros(1, 12)), [proposals([[0, 0, 9, 9]])]
    )
    assert found.scores.tolist() == pytest.approx([0.5, 0.1])
    assert found.unknown_score.tolist() == pytest.approx([0.3, 0.3])


def test_a_hidden_class_needs_a_known_one_beside_it():
    with pytest.raises(ConfigError, match="num_unknown 3 of num_classes 3 leaves no known class"):
        predictor(num_unknown=3)


def record(*annotations):
    return {
        "image_key": "a.png",
        "annotations": [{"category_id": i, "category_name": n} for i, n in annotations],
    }


def ids(records):
    return [a["category_id"] for r in records for a in r["annotations"]]


def test_labels_of_the_three_kinds_of_target():
    records = [record((0, "tumor"), (2, "mitosis"), (1, "stroma"), (2, "plasma"))]
    names = {"known": 2, "unknown_classes": ["plasma", "mitosis"]}
    assert ids(training_labels(records, **names, outputs=0)) == [0, 1]
    assert ids(training_labels(records, **names, outputs=1)) == [0, 2, 1, 2]
    assert ids(training_labels(records, **names, outputs=2)) == [0, 3, 1, 2]
    assert ids(records) == [0, 2, 1, 2]
    with pytest.raises(
        ConfigError, match="3 classes for unknown nuclei, but the data have 2 .plasma, mitosis"
    ):
        training_labels(records, **names, outputs=3)


HEADS = {
    "fpn": {},
    "cascade": {
        "MODEL.ROI_HEADS.NAME": "OpenSetCascadeROIHeads",
        "MODEL.ROI_HEADS.BOX_BRANCHES": ["PrototypeBranch", "EvidentialBranch"],
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "OSAL.AUXILIARY.ROI_HEADS_NAME": "OpenSetCascadeROIHeads",
    },
    "c4": {},
}


@pytest.mark.parametrize("mode", ["posthoc", "branch", "edl"])
@pytest.mark.parametrize("policy", ["class", "classes"])
@pytest.mark.parametrize("heads", HEADS)
def test_every_head_learns_the_unknown_and_shows_known_classes_only(
    request, toy_cfg, make_input, heads, policy, mode
):
    cfg = request.getfixturevalue("c4_cfg") if heads == "c4" else toy_cfg
    cfg.merge_from_list([word for pair in HEADS[heads].items() for word in pair])
    cfg.OSAL.DATA.UNKNOWN_POLICY, cfg.OSAL.DATA.UNKNOWN_CLASSES = policy, ["plasma", "mitosis"]
    cfg.OSAL.EVIDENCE.MODE = mode
    hidden = 1 if policy == "class" else 2
    torch.manual_seed(0)
    model = build_model(cfg).train()
    assert num_unknown(model.target) == hidden and num_unknown(model.auxiliary) == 0
    with EventStorage():
        losses = model([make_input(0, 2, K + hidden - 1), make_input(K)])
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    last = getattr(model.target.roi_heads.box_predictor, "cls_score", None)
    weight = (last or model.target.roi_heads.box_predictor[-1].cls_score).weight
    assert weight.shape[0] == K + hidden + 1 and (weight.grad[K:-1].abs().sum(dim=1) > 0).all()
    model.eval()
    with torch.no_grad():
        weight[K:-1] += 10 * weight.abs().max()  # all that it finds is unknown, first of all
        found = model([make_input(0)])[0]["instances"]
    assert len(found) > 0 and set(found.pred_classes.tolist()) <= set(range(K))
    assert found.logits.shape == (len(found), K + 1)
    assert ((found.scores + found.unknown_score) <= 1 + 1e-5).all()
    if mode != "edl" and heads != "cascade":  # there the scores are another function of the logits
        posterior = found.logits.softmax(dim=1)
        own = posterior[torch.arange(len(found)), found.pred_classes]
        assert torch.allclose(own, found.scores, atol=1e-5)
    assert ((found.cls_uncertainty > 0) & (found.cls_uncertainty <= 1)).all()


def test_a_sure_unknown_nucleus_is_not_uncertain(toy_cfg):
    """Vacuity is over all that the classifier has learnt: (3 + 1) / (0 + 0 + 0 + 12 + 4)."""
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "class"
    branch = build_model(toy_cfg).target.roi_heads.box_branches["evidence"]
    fields = branch.fields(torch.zeros(1, 32), torch.tensor([[-1.0, -1, -1, 12, 3]]))
    assert fields["cls_uncertainty"].tolist() == pytest.approx([0.25])


def test_prototypes_of_a_target_take_every_unknown_class_for_unknown(toy_cfg):
    toy_cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"])
    toy_cfg.MODEL.ROI_HEADS.BOX_BRANCHES = ["PrototypeBranch"]
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY, toy_cfg.OSAL.DATA.UNKNOWN_CLASSES = "classes", ["plasma", "mitosis"]
    branch = build_model(toy_cfg).roi_heads.box_branches["prototype"]
    regions = Instances((9, 9))
    regions.gt_classes = torch.tensor([2, K, K + 1, K + 2])  # known, both unknown ones, background
    branch.losses(torch.ones(4, 32), [regions], K + 2)
    assert branch.feature_counts.tolist() == [1, 2]


def test_without_unknown_nuclei_nothing_changes(toy_cfg, make_input):
    """With "drop" a detector has the weights, losses and detections that it had before there was another policy."""
    toy_cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    models = []
    for policy in ("drop", "classes"):  # no unknown class is named: no output is added
        toy_cfg.OSAL.DATA.UNKNOWN_POLICY = policy
        torch.manual_seed(0)
        models.append(build_model(toy_cfg).eval())
    found = [model([make_input(0)])[0]["instances"] for model in models]
    assert found[0].get_fields().keys() == found[1].get_fields().keys()
    assert not found[0].has("unknown_score") and torch.equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "OSALRCNN"])
def test_heads_that_would_show_the_class_are_refused(toy_cfg, architecture):
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "class"
    toy_cfg.MODEL.META_ARCHITECTURE = architecture
    toy_cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    with pytest.raises(
        ConfigError, match="UNKNOWN_POLICY class needs open-set ROI heads.*OpenSetStandardROIHeads"
    ):
        check_architecture(toy_cfg)
    if architecture == "OSALRCNN":
        with pytest.raises(
            ConfigError, match="'class' does not fit a target with 0 classes for unknown nuclei"
        ):
            build_model(toy_cfg)


def test_a_projects_own_predictor_hides_it_too_or_is_refused(toy_cfg):
    class Own(OpenSetFastRCNNOutputLayers):
        pass

    class Forgetful(OpenSetFastRCNNOutputLayers):
        @classmethod
        def from_config(cls, cfg, input_shape):
            return {**super().from_config(cfg, input_shape), "num_unknown": 0}

    heads = {}
    for predictor in (Own, Forgetful):

        class Heads(StandardROIHeads):
            kind = predictor

            @classmethod
            def _init_box_head(cls, cfg, input_shape):
                ret = super()._init_box_head(cfg, input_shape)
                return {**ret, "box_predictor": cls.kind(cfg, ret["box_head"].output_shape)}

        heads[predictor] = type(f"{predictor.__name__}Heads", (OpenSetStandardROIHeads, Heads), {})
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "class"
    shapes = {"p2": ShapeSpec(channels=16, stride=4), "p3": ShapeSpec(channels=16, stride=8)}
    kept = heads[Own](toy_cfg, shapes).box_predictor
    assert (kept.num_unknown, kept.num_classes) == (1, K + 1)
    with pytest.raises(ConfigError, match="num_unknown 1, and Forgetful was built with 0"):
        heads[Forgetful](toy_cfg, shapes)


def test_the_names_are_those_of_the_data(toy_cfg):
    name_unknown(toy_cfg, ["plasma"])
    assert list(toy_cfg.OSAL.DATA.UNKNOWN_CLASSES) == []  # "drop" has no use for them
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "classes"
    name_unknown(toy_cfg, ["plasma", "mitosis"])
    assert list(toy_cfg.OSAL.DATA.UNKNOWN_CLASSES) == ["plasma", "mitosis"] and unknown_outputs(toy_cfg) == 2
    with pytest.raises(ConfigError, match="no class besides the known ones; use the policy drop"):
        name_unknown(toy_cfg, [])
