"""The mean teacher: its running mean and what it teaches about a tile."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from osal_detectron2.data.strong_view import StrongView
from osal_detectron2.modeling.mean_teacher import MeanTeacher, pseudo_labels

LEFT_OUT = 3


def found(*rows) -> Instances:
    """Detections of (x, score, class): boxes of 10 px that begin at x."""
    boxes = torch.tensor([[x, 0, x + 10, 10] for x, _, _ in rows], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([s for _, s, _ in rows])
    classes = torch.tensor([c for _, _, c in rows], dtype=torch.long)
    return Instances((50, 200), pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)


def taught(detections: Instances, *unknown_at: float) -> list[tuple[float, int]]:
    unknown = torch.tensor([[x, 0, x + 10, 10] for x in unknown_at], dtype=torch.float32).reshape(-1, 4)
    labels = pseudo_labels(
        detections, Boxes(unknown), num_known=2, score_thresh=0.7, floor=0.2, left_out=LEFT_OUT
    )
    return [(float(b[0]), int(c)) for b, c in zip(labels.gt_boxes.tensor, labels.gt_classes)]


def test_confident_detections_are_labels_and_doubtful_ones_are_left_out():
    assert taught(found((0, 0.9, 1), (20, 0.5, 0), (40, 0.1, 0))) == [(0, 1), (20, LEFT_OUT)]


def test_a_second_guess_about_a_labelled_nucleus_is_no_doubt_about_it():
    assert taught(found((0, 0.9, 1), (1, 0.5, 0))) == [(0, 1)]


def test_a_detection_on_what_the_auxiliary_calls_unknown_is_left_out():
    assert taught(found((0, 0.9, 1), (50, 0.9, 0)), 1, 100) == [
        (50, 0),
        (0, LEFT_OUT),
        (1, LEFT_OUT),
        (100, LEFT_OUT),
    ]


def test_a_more_likely_unknown_class_takes_the_label_away():
    assert taught(found((0, 0.75, 1), (0, 0.8, 2), (50, 0.8, 0), (50, 0.5, 2))) == [
        (50, 0),
        (0, LEFT_OUT),
        (0, LEFT_OUT),
    ]


def test_nothing_found_is_an_empty_tile():
    labels = pseudo_labels(
        found(), Boxes(torch.zeros(0, 4)), num_known=2, score_thresh=0.7, floor=0.2, left_out=LEFT_OUT
    )
    assert len(labels) == 0 and labels.gt_classes.dtype == torch.long


def test_the_teacher_is_the_running_mean_of_the_student():
    student = nn.BatchNorm1d(1)
    teacher = MeanTeacher(student, decay=0.5)
    assert not teacher.follows
    teacher.start()
    with torch.no_grad():
        student.weight.fill_(3.0)
    student.num_batches_tracked.fill_(7)
    teacher.update(step=1000)
    assert float(teacher.model.weight) == pytest.approx(2.0)  # half of 1, half of 3
    assert int(teacher.model.num_batches_tracked) == 7
    teacher.update(step=0)  # a tenth of the past: the mean of few steps must not be the start
    assert float(teacher.model.weight) == pytest.approx(0.1 * 2.0 + 0.9 * 3.0)
    assert not teacher.model.training and not any(p.requires_grad for p in teacher.model.parameters())

    other = MeanTeacher(nn.BatchNorm1d(1), decay=0.5)
    other.load_state_dict(teacher.state_dict())
    assert other.follows and float(other.model.weight) == float(teacher.model.weight)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_the_strong_view_moves_nothing_and_follows_the_seed(image_format):
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 20:40, 30:50] = torch.tensor([200, 60, 120], dtype=torch.uint8)[:, None, None]
    view = StrongView(image_format)
    views = []
    for seed in [*range(8), 0]:
        torch.manual_seed(seed)
        views.append(view(image))
    assert all(v.shape == image.shape and v.dtype == torch.uint8 for v in views)
    assert torch.equal(views[0], views[-1]) and any(not torch.equal(v, image) for v in views)
    inside = torch.stack([v[:, 25:35, 35:45].float().mean() for v in views])
    outside = torch.stack([v[:, :10, :10].float().mean() for v in views])
    assert (inside > outside).float().mean() > 0.7


def test_the_hue_of_a_bgr_image_is_changed_as_that_of_the_same_rgb_image():
    rgb = torch.randint(0, 255, (3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(3)
    one = StrongView("RGB")(rgb)
    torch.manual_seed(3)
    assert torch.equal(StrongView("BGR")(rgb.flip(0)).flip(0), one)
