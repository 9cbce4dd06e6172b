"""What the target detector does with annotated unknown nuclei (class id K) while it trains.

Methods section 6 row 3. "drop": they are taken out of the targets, hence background in the RPN and in the ROI
heads. "ignore": anchors and proposals on them take no part in either loss. Plain Detectron2 would do neither:
id K is positive for its RPN and background for its ROI heads.
"""

import torch
from detectron2.config import configurable
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, Instances, pairwise_iou

IGNORE_IOU = 0.5
POLICIES = ("drop", "ignore")


def split_unknown(instances: Instances, num_known: int) -> tuple[Instances, Instances]:
    """The instances with `gt_classes` below `num_known`, and the others."""
    known = instances.gt_classes < num_known
    return instances[known], instances[~known]


def lies_on_unknown(boxes: Boxes, unknown: Boxes, known: Boxes) -> torch.Tensor:
    """(N,) bool: boxes with IoU >= 0.5 to an unknown nucleus and to no known one."""

    def covers(others):
        return (pairwise_iou(boxes, others) >= IGNORE_IOU).any(dim=1)

    return covers(unknown) & ~covers(known)


def leave_out_unknown(
    proposals: list[Instances], targets: list[Instances], num_known: int
) -> tuple[list[Instances], list[Instances]]:
    """The `proposals` of each image that do not lie on its unknown nuclei, and its `targets` without these."""
    parts = [split_unknown(t, num_known) for t in targets]
    kept = [
        p[~lies_on_unknown(p.proposal_boxes, unknown.gt_boxes, known.gt_boxes)] if len(unknown) else p
        for p, (known, unknown) in zip(proposals, parts)
    ]
    return kept, [known for known, _ in parts]


@PROPOSAL_GENERATOR_REGISTRY.register()
class OpenSetRPN(RPN):
    """RPN that ignores anchors on unknown nuclei: neither positive nor negative.

    Unknown are the instances with `gt_classes` of `num_known` or more.
    """

    _version = 1

    @configurable
    def __init__(self, *, num_known: int, **kwargs):
        """
        Args:
            num_known: K.
            kwargs: arguments of `RPN`.
        """
        super().__init__(**kwargs)
        self.num_known = num_known

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {**super().from_config(cfg, input_shape), "num_known": cfg.MODEL.ROI_HEADS.NUM_CLASSES}

    @torch.no_grad()
    def label_and_sample_anchors(self, anchors, gt_instances):
        """As in `RPN`; sampled negatives on unknown nuclei are then ignored, and not replaced by others."""
        parts = [split_unknown(i, self.num_known) for i in gt_instances]
        labels, matched_boxes = super().label_and_sample_anchors(anchors, [known for known, _ in parts])
        all_anchors = Boxes.cat(anchors)
        for label, (known, unknown) in zip(labels, parts):
            if len(unknown):
                label[lies_on_unknown(all_anchors, unknown.gt_boxes, known.gt_boxes) & (label == 0)] = -1
        return labels, matched_boxes
