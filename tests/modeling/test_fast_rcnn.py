import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.evidence import KLSchedule, activate, tmc_loss
from osal_detectron2.modeling.fast_rcnn import EvidentialOutputLayers, OpenSetFastRCNNOutputLayers

ARGUMENTS = {
    "input_shape": ShapeSpec(channels=4),
    "box2box_transform": Box2BoxTransform(weights=(10, 10, 5, 5)),
    "num_classes": 2,
    "test_score_thresh": 0.05,
    "test_topk_per_image": 100,
}


def proposals(boxes, size=(100, 100)):
    result = Instances(size)
    result.proposal_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    return result


def random_case(seed, n=40):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=generator) * 70
    boxes = torch.cat([corners, corners + 10 + 20 * torch.rand(n, 2, generator=generator)], dim=1)
    predictions = (torch.randn(n, 3, generator=generator) * 2, torch.randn(n, 8, generator=generator))
    return predictions, proposals(boxes)


def reference_nms(boxes, scores, threshold):
    """Greedy and slow."""
    order, kept = scores.argsort(descending=True).tolist(), []
    overlap = pairwise_iou(Boxes(boxes), Boxes(boxes))
    for i in order:
        if all(overlap[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept


def test_per_class_results_are_detectron2s():
    predictions, props = random_case(0)
    ours, rows = OpenSetFastRCNNOutputLayers(**ARGUMENTS).inference(predictions, [props, props[:0]][:1])
    theirs, kept = FastRCNNOutputLayers(**ARGUMENTS).inference(predictions, [props])
    assert torch.equal(ours[0].pred_boxes.tensor, theirs[0].pred_boxes.tensor)
    assert torch.equal(ours[0].scores, theirs[0].scores) and torch.equal(rows[0], kept[0])


@pytest.mark.parametrize("nms", ["per_class", "class_agnostic"])
def test_rows_count_in_the_list_that_came_in_although_some_are_not_finite(nms):
    predictor = OpenSetFastRCNNOutputLayers(**ARGUMENTS, nms=nms)
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]
    logits = torch.tensor([[9.0, 0.0, 0.0], [float("nan"), 0.0, 0.0], [0.0, 8.0, 0.0], [7.0, 0.0, 0.0]])
    detections, rows = predictor.inference((logits, torch.zeros(4, 8)), [proposals(boxes)])
    assert rows[0].tolist() == [0, 2, 3]
    assert detections[0].pred_boxes.tensor[:, 0].tolist() == [0.0, 40.0, 60.0]


@pytest.mark.parametrize("seed", range(5))
def test_class_agnostic_nms_is_greedy_over_all_classes(seed):
    predictions, props = random_case(seed)
    predictor = OpenSetFastRCNNOutputLayers(**ARGUMENTS, nms="class_agnostic")
    detections, rows = predictor.inference(predictions, [props])
    boxes = predictor.predict_boxes(predictions, [props])[0].reshape(-1, 2, 4)
    scores = predictions[0].softmax(dim=1)[:, :2]
    candidates = (scores > 0.05).nonzero()
    flat_boxes = Boxes(boxes[candidates[:, 0], candidates[:, 1]])
    flat_boxes.clip((100, 100))
    kept = reference_nms(flat_boxes.tensor, scores[candidates[:, 0], candidates[:, 1]], 0.5)
    assert rows[0].tolist() == candidates[kept, 0].tolist()
    assert detections[0].pred_classes.tolist() == candidates[kept, 1].tolist()
    assert torch.equal(detections[0].pred_boxes.tensor, flat_boxes.tensor[kept])


def test_one_nucleus_found_as_two_classes_is_kept_once_and_best_first():
    logits = torch.tensor([[2.0, 1.9, 0.0], [1.0, 3.0, 0.0]])
    props = proposals([[0, 0, 20, 20], [50, 50, 70, 70]])
    results = {}
    for nms in ("per_class", "class_agnostic"):
        predictor = OpenSetFastRCNNOutputLayers(**ARGUMENTS, nms=nms)
        detections, rows = predictor.inference((logits, torch.zeros(2, 8)), [props])
        results[nms] = list(zip(rows[0].tolist(), detections[0].pred_classes.tolist()))
    assert sorted(results["per_class"]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert results["class_agnostic"] == [(1, 1), (0, 0)]


def test_class_agnostic_nms_keeps_the_best_of_the_limit():
    predictions, props = random_case(1)
    limited = OpenSetFastRCNNOutputLayers(**{**ARGUMENTS, "test_topk_per_image": 3}, nms="class_agnostic")
    unlimited = OpenSetFastRCNNOutputLayers(**{**ARGUMENTS, "test_topk_per_image": -1}, nms="class_agnostic")
    few, rows = limited.inference(predictions, [props])
    many, all_rows = unlimited.inference(predictions, [props])
    assert len(many[0]) > 3 and rows[0].tolist() == all_rows[0][:3].tolist()
    assert torch.equal(few[0].scores, many[0].scores[:3])


@pytest.mark.parametrize("nms", ["per_class", "class_agnostic"])
def test_no_proposals_and_no_images(nms):
    predictor = OpenSetFastRCNNOutputLayers(**ARGUMENTS, nms=nms)
    detections, rows = predictor.inference(
        (torch.zeros(0, 3), torch.zeros(0, 8)), [proposals(torch.zeros(0, 4))]
    )
    assert len(detections[0]) == 0 and rows[0].shape == (0,) and rows[0].dtype == torch.long
    assert predictor.inference((torch.zeros(0, 3), torch.zeros(0, 8)), []) == ([], [])


def test_unknown_nms_is_named():
    with pytest.raises(ConfigError, match="OSAL.AUXILIARY.NMS.*per_class"):
        OpenSetFastRCNNOutputLayers(**ARGUMENTS, nms="soft")


def test_a_classifier_of_sigmoids_is_refused():
    """Entropy, vacuity and the posteriors of the strategies would silently be those of another model."""
    with pytest.raises(
        ConfigError, match="USE_SIGMOID_CE.*softmax classifier; set it and USE_FED_LOSS to False"
    ):
        OpenSetFastRCNNOutputLayers(**ARGUMENTS, use_sigmoid_ce=True)


def test_evidential_classifier_replaces_the_cross_entropy_and_scores_by_alpha():
    schedule = KLSchedule(kl_weight=1.0, anneal_fraction=0.5, round_iters=4)
    predictor = EvidentialOutputLayers(**ARGUMENTS, schedule=schedule)
    predictions, props = random_case(2, n=6)
    props.gt_classes = torch.tensor([0, 1, 2, 2, 1, 0])
    props.gt_boxes = props.proposal_boxes
    evidence = activate(predictions[0], "softplus")
    with EventStorage():
        for kl_weight in (0.0, 0.5, 1.0):
            losses = predictor.losses(predictions, [props])
            expected = tmc_loss(evidence, props.gt_classes, kl_weight).mean()
            assert losses["loss_cls"].item() == pytest.approx(expected.item(), rel=1e-5)
    probabilities = predictor.predict_probs(predictions, [props])[0]
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(6))
    assert torch.allclose(probabilities, (evidence + 1) / (evidence + 1).sum(dim=1, keepdim=True))
