"""A mean teacher (Tarvainen and Valpola, NeurIPS 2017): what it is, and what it teaches about an unlabelled tile.

Its weights are the running mean of the student's. Its confident detections are the labels of the student; all else
that may be a nucleus, above all what looks unknown, is neither a positive nor a negative example.
"""

import copy

import torch
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import nn

from .roi_heads import box_predictors

SAME_NUCLEUS_IOU = 0.5


class MeanTeacher:
    """The running mean of a detector, kept in checkpoints under its own name.

    Args:
        student: the detector that is trained; not wrapped for DDP.
        decay: of the mean; in the first steps of a round less, so that it is not that of the initial weights.
    """

    def __init__(self, student: nn.Module, *, decay: float) -> None:
        self.student, self.decay = student, decay
        self.model = copy.deepcopy(student).eval().requires_grad_(False)
        self.follows = False  # whether it has been started, or loaded from a checkpoint

    def start(self) -> None:
        """Become the student, as a round begins."""
        self.model.load_state_dict(self.student.state_dict())
        self.follows = True

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the student, `step` steps into the round. Counters and the like are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine = self.model.state_dict()
        for name, value in self.student.state_dict().items():
            if value.is_floating_point():
                mine[name].lerp_(value, 1 - decay)
            else:
                mine[name].copy_(value)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.model.load_state_dict(state)
        self.follows = True


def show_unknown(detector: nn.Module) -> None:
    """Let `detector` output its classes for unknown nuclei, too, as classes K and up."""
    for predictor in box_predictors(detector.roi_heads):
        predictor.num_unknown = 0


def pseudo_labels(
    found: Instances,
    unknown: Boxes,
    *,
    num_known: int,
    score_thresh: float,
    floor: float,
    left_out: int,
) -> Instances:
    """What a student learns from a teacher's detections of one tile.

    Args:
        found: detections with pred_boxes, scores, pred_classes; classes from `num_known` on are unknown nuclei.
        unknown: boxes that another detector takes for unknown nuclei.
        num_known: K.
        score_thresh: detections of known classes from this score on are labels, unless they look unknown: on a box of
            an unknown class with a higher score, or on one of `unknown`.
        floor: the others from this score on are left out, as is all of `unknown`.
        left_out: gt_classes of what is left out (modeling/unknown.py: beyond the outputs of the detector).

    Returns:
        Instances with gt_boxes (n, 4) and gt_classes (n,), those that are left out last.
    """
    boxes, scores = found.pred_boxes, found.scores
    of_unknown = found.pred_classes >= num_known
    overlap = pairwise_iou(boxes, boxes) >= SAME_NUCLEUS_IOU
    looks_unknown = of_unknown | (overlap & of_unknown[None, :] & (scores[None, :] > scores[:, None])).any(
        dim=1
    )
    looks_unknown |= (pairwise_iou(boxes, unknown) >= SAME_NUCLEUS_IOU).any(dim=1)
    label = (scores >= score_thresh) & ~looks_unknown
    # What else was found on a labelled nucleus says nothing.
    doubtful = ~label & (scores >= floor) & ~overlap[:, label].any(dim=1)
    gt_boxes = Boxes.cat([boxes[label], boxes[doubtful], unknown])
    classes = torch.full((len(gt_boxes),), left_out, dtype=torch.long, device=gt_boxes.device)
    classes[: int(label.sum())] = found.pred_classes[label]
    return Instances(found.image_size, gt_boxes=gt_boxes, gt_classes=classes)
