"""Which detection is which nucleus of a tile, by COCO's own rules and arithmetic."""

import numpy as np
from pycocotools import mask as coco_mask


def open_set_counts(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    *,
    known_boxes: np.ndarray,
    known_classes: np.ndarray,
    unknown_boxes: np.ndarray,
    iou_thresh: float = 0.5,
) -> tuple[int, int]:
    """Count, on one tile, the unknown nuclei taken for known ones and the detections that took them.

    A detection takes an unknown nucleus if their IoU is at least `iou_thresh` and it is not the true match of
    a known nucleus of its class (see `true_matches`).

    Args:
        boxes, scores, classes: (D, 4) xywh, (D,), (D,) detections above the score threshold.
        known_boxes, known_classes: (G, 4) xywh, (G,) known ground truth.
        unknown_boxes: (U, 4) xywh.

    Returns:
        (unknown nuclei taken at least once, detections that take at least one unknown nucleus).
    """
    if not len(boxes) or not len(unknown_boxes):
        return 0, 0
    free = ~true_matches(boxes, scores, classes, known_boxes, known_classes, iou_thresh=iou_thresh)
    takes = (box_iou(boxes, unknown_boxes) >= iou_thresh) & free[:, None]
    return int(takes.any(axis=0).sum()), int(takes.any(axis=1).sum())


def true_matches(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    gt_boxes: np.ndarray,
    gt_classes: np.ndarray,
    *,
    iou_thresh: float = 0.5,
) -> np.ndarray:
    """(D,) bool: which detections COCO counts as true positives.

    Best score first, each detection takes the free nucleus of its class with the largest IoU >= `iou_thresh`.
    """
    same = classes[:, None] == gt_classes[None, :]
    return claimed(np.where(same, box_iou(boxes, gt_boxes), -1.0), scores, iou_thresh=iou_thresh) >= 0


def claimed(iou: np.ndarray, scores: np.ndarray, *, iou_thresh: float) -> np.ndarray:
    """(D,) which nucleus each detection claims, -1 for none: best score first, the free one of largest IoU.

    iou: (D, G), below 0 where a nucleus cannot be claimed. scores: (D,).
    """
    iou = np.array(iou)
    rows = np.full(len(iou), -1)
    for d in np.argsort(-scores, kind="stable") if iou.size else ():
        best = int(iou[d].argmax())
        if iou[d, best] >= iou_thresh:
            rows[d] = best
            iou[:, best] = -1.0
    return rows


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) IoU of xywh boxes (A, 4) and (B, 4), by COCO's own arithmetic."""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    a, b = np.ascontiguousarray(a, dtype=float), np.ascontiguousarray(b, dtype=float)
    return coco_mask.iou(a, b, [0] * len(b))
