import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.meta_arch import auxiliary_view, target_cfg, target_view
from osal_detectron2.modeling.unknown import lies_on_unknown, split_unknown

K = 3


def targets(boxes, classes):
    result = Instances((128, 128))
    result.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.gt_classes = torch.tensor(classes, dtype=torch.long)
    return result


@pytest.fixture
def target(toy_cfg):
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "ignore"
    toy_cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 100_000  # all anchors
    toy_cfg.MODEL.RPN.POSITIVE_FRACTION = 1.0
    toy_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 1000
    return build_model(target_cfg(toy_cfg)).train()


def label_anchors(model, instances):
    maps = [torch.zeros(1, 16, 32, 32), torch.zeros(1, 16, 16, 16)]
    anchors = model.proposal_generator.anchor_generator(maps)
    labels, _ = model.proposal_generator.label_and_sample_anchors(anchors, [instances])
    return labels[0], Boxes.cat(anchors)


def test_anchors_on_unknown_nuclei_are_neither_positive_nor_negative(target):
    known, unknown = [8, 8, 24, 24], [72, 72, 88, 88]
    labels, anchors = label_anchors(target, targets([known, unknown], [1, K]))
    overlap = pairwise_iou(anchors, Boxes(torch.tensor([known, unknown], dtype=torch.float32)))
    assert (overlap[:, 1] >= 0.5).sum() >= 1 and (labels[overlap[:, 1] >= 0.5] == -1).all()
    assert (labels[overlap[:, 0] >= 0.7] == 1).all() and (labels == 1).sum() > 0
    only_known, _ = label_anchors(target, targets([known], [1]))
    elsewhere = overlap[:, 1] < 0.5
    assert torch.equal(labels[elsewhere], only_known[elsewhere])


def test_plain_rpn_would_learn_an_unknown_nucleus(toy_cfg, target):
    """Why there is a policy at all: to Detectron2's RPN every instance is an object."""
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "drop"
    plain = build_model(target_cfg(toy_cfg))
    unknown = targets([[72, 72, 88, 88]], [K])
    assert (label_anchors(plain, unknown)[0] == 1).any()
    assert not (label_anchors(target, unknown)[0] == 1).any()


def test_proposals_on_unknown_nuclei_are_not_sampled_nor_appended(target):
    known, unknown = [10.0, 10, 40, 40], [80.0, 80, 110, 110]
    proposals = Instances((128, 128))
    proposals.proposal_boxes = Boxes(torch.tensor([known, unknown, [82.0, 80, 110, 110], [50.0, 0, 70, 20]]))
    proposals.objectness_logits = torch.zeros(4)
    with EventStorage():
        sampled = target.roi_heads.label_and_sample_proposals(
            [proposals], [targets([known, unknown], [1, K])]
        )[0]
    assert sorted(zip(sampled.proposal_boxes.tensor[:, 0].tolist(), sampled.gt_classes.tolist())) == [
        (10.0, 1),  # the proposal
        (10.0, 1),  # the appended ground truth
        (50.0, K),  # background
    ]


def test_a_box_on_a_known_and_an_unknown_nucleus_stays(target):
    boxes = Boxes(torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 16]]))
    unknown, known = Boxes(torch.tensor([[0.0, 0, 10, 12]])), Boxes(torch.tensor([[0.0, 0, 10, 20]]))
    assert lies_on_unknown(boxes, unknown, known[:0]).tolist() == [True, True]
    assert lies_on_unknown(boxes, unknown, known).tolist() == [False, False]
    assert lies_on_unknown(boxes, unknown, Boxes(torch.tensor([[0.0, 0, 10, 25]]))).tolist() == [True, False]


def test_tiles_of_unknown_nuclei_only_and_of_nothing_train(target, make_input):
    with EventStorage():
        losses = target([make_input(K, K), make_input()])
    assert all(torch.isfinite(v) for v in losses.values()) and losses["loss_box_reg"] == 0


def test_views():
    instances = targets([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], [0, K, 2])
    assert auxiliary_view(instances, K).gt_classes.tolist() == [0, 1, 0]
    assert target_view(instances, K, "drop").gt_classes.tolist() == [0, 2]
    assert target_view(instances, K, "drop").gt_boxes.tensor[:, 0].tolist() == [0.0, 40.0]
    assert target_view(instances, K, "ignore").gt_classes.tolist() == [0, K, 2]
    assert instances.gt_classes.tolist() == [0, K, 2]
    assert [len(part) for part in split_unknown(instances, K)] == [2, 1]


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("OSAL.DATA.UNKNOWN_POLICY", "negative", "UNKNOWN_POLICY.*drop, ignore"),
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "OpenSetStandardROIHeads"),
        ("OSAL.AUXILIARY.ROI_HEADS_NAME", "StandardROIHeads", "OSAL.AUXILIARY.NMS"),
        ("OSAL.AUXILIARY.NMS", "soft", "OSAL.AUXILIARY.NMS"),
    ],
)
def test_what_cannot_work_is_said_at_start_up(toy_cfg, key, value, says):
    toy_cfg.OSAL.DATA.UNKNOWN_POLICY = "ignore"
    toy_cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError, match=says):
        build_model(toy_cfg)
