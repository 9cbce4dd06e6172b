"""What the target detector does with annotated unknown nuclei (class ids from K on) while it trains.

docs/reproducibility.md row 3. "drop": they are taken out of the targets, hence background in the RPN and in the ROI
heads. "ignore": anchors and proposals on them take no part in either loss. Plain Detectron2 would do neither:
id K is positive for its RPN and background for its ROI heads.

"class", "classes": they are learnt, as one more class (id K) or each as its own (ids K .. K+U-1). The classifier has
K + U foreground classes, of which the last U, the unknown ones, never leave the detector: a detection has one of the
K known classes, its score is that class's posterior among all K + U + 1, and `logits` count the unknown classes to the
background (`fold_logits`). To whoever reads detections it is a detector of K classes, as with "drop".
"""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import nn

from ..core.errors import ConfigError

IGNORE_IOU = 0.5
POLICIES = ("drop", "ignore", "class", "classes")
LEARNT = ("class", "classes")
PSEUDO = "pseudo_labelled"  # marks an input whose instances a teacher found, for the target alone


def unknown_outputs(cfg) -> int:
    """U: foreground classes that the target of `cfg` has for unknown nuclei, beyond MODEL.ROI_HEADS.NUM_CLASSES."""
    data = cfg.OSAL.DATA
    return {"class": 1, "classes": len(data.UNKNOWN_CLASSES)}.get(data.UNKNOWN_POLICY, 0)


def name_unknown(cfg, names: Sequence[str]) -> None:
    """Put the `names` of the unknown classes into `cfg`, in place, if its policy asks for them.

    Raises ConfigError if it does and there are none.
    """
    if cfg.OSAL.DATA.UNKNOWN_POLICY != "classes":
        return
    if not names:
        raise ConfigError(
            "OSAL.DATA.UNKNOWN_POLICY classes: the data have no class besides the known ones; use the policy drop"
        )
    cfg.OSAL.DATA.UNKNOWN_CLASSES = list(names)


def with_unknown_outputs(cfg):
    """`cfg` as its ROI heads are built: NUM_CLASSES counts the classes for unknown nuclei, too."""
    outputs = unknown_outputs(cfg)
    if outputs:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.ROI_HEADS.NUM_CLASSES += outputs
    return cfg


def num_unknown(detector) -> int:
    """U of a detector that was built: the last U classes of its box predictor never leave it."""
    predictor = getattr(getattr(detector, "roi_heads", None), "box_predictor", None)
    last = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
    return getattr(last, "num_unknown", 0)


def fold_logits(logits: torch.Tensor, num_unknown: int) -> torch.Tensor:
    """Logits (R, K + U + 1), the background last, to (R, K + 1): the unknown classes become background.

    log(e^h_K + ... + e^h_K+U) is the logit of all of them together, so the softmax of the result has the known
    posteriors as they were, and in the last place the probability of "no known nucleus".
    """
    if not num_unknown:
        return logits
    rest = logits[:, -num_unknown - 1 :].logsumexp(dim=1, keepdim=True)
    return torch.cat([logits[:, : -num_unknown - 1], rest], dim=1)


def training_labels(
    records: Sequence[dict], *, known: int, unknown_classes: Sequence[str], outputs: int
) -> list[dict]:
    """`records` with the category ids that a target with `outputs` classes for unknown nuclei learns from.

    Args:
        records: category_id 0..known-1, or `known` for every unknown class (data/coco.py).
        unknown_classes: names of the unknown classes, in the order of the outputs.
        outputs: U. 0: unknown nuclei are left out. 1: they keep id `known`. More: one id for each of `unknown_classes`.

    Raises:
        ConfigError: more than one output, but not one for each of `unknown_classes`.
    """
    if outputs == 1:
        return list(records)
    if outputs > 1 and outputs != len(unknown_classes):
        raise ConfigError(
            f"the target has {outputs} classes for unknown nuclei, but the data have {len(unknown_classes)} "
            f"({', '.join(unknown_classes)}); build it with 1, or with {len(unknown_classes)}"
        )
    ids = {name: known + index for index, name in enumerate(unknown_classes)} if outputs else {}

    def learnt(annotations):
        for a in annotations:
            if a["category_id"] < known:
                yield a
            elif outputs:
                yield {**a, "category_id": ids[a["category_name"]]}

    return [{**r, "annotations": list(learnt(r["annotations"]))} for r in records]


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

    Unknown are the instances with `gt_classes` of `num_known` or more: all that the detector has no output for.
    """

    _version = 1

    @configurable
    def __init__(self, *, num_known: int, **kwargs):
        """
        Args:
            num_known: K + U, outputs of the detector for nuclei.
            kwargs: arguments of `RPN`.
        """
        super().__init__(**kwargs)
        self.num_known = num_known

    @classmethod
    def from_config(cls, cfg, input_shape):
        outputs = cfg.MODEL.ROI_HEADS.NUM_CLASSES + unknown_outputs(cfg)
        return {**super().from_config(cfg, input_shape), "num_known": outputs}

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
