"""Which box of one set of detections is which of another (docs/reproducibility.md 3.4 and 3.6)."""

from collections.abc import Mapping

import numpy as np

from ..core.boxes import pairwise_iou

ONE_NUCLEUS_IOU = 0.5  # boxes that overlap so much are of one nucleus


def acquisition_set(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> dict[str, np.ndarray]:
    """The detections from `score_thresh` on (docs/reproducibility.md 1.2); columns of another length, as "reference",
    are left as they are."""
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    return _rows(detections, kept)


def one_box_a_nucleus(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Rows, best score first, that a class-agnostic NMS keeps of boxes (B, 4) with scores (B,).

    A box goes that overlaps a kept one of better score by IoU .5 or more; of equal scores the first stays.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    same = pairwise_iou(boxes, boxes) >= ONE_NUCLEUS_IOU
    kept: list[int] = []
    for row in order:
        if not same[row, kept].any():
            kept.append(int(row))
    return np.array(kept, dtype=np.int64)


def with_one_box_a_nucleus(detections: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those detections, in the order they have; "reference" is left as it is. It does not matter whether
    `acquisition_set` comes before or after, for no box suppresses one of a better score."""
    return _rows(detections, np.sort(one_box_a_nucleus(detections["boxes"], detections["scores"])))


def with_boxes_on(detections: Mapping[str, np.ndarray], nuclei: np.ndarray) -> dict[str, np.ndarray]:
    """The detections whose boxes overlap one of `nuclei` (N, 4) by IoU .5 or more; "reference" is left as it is."""
    overlap = pairwise_iou(detections["boxes"], nuclei)
    return _rows(detections, np.flatnonzero((overlap >= ONE_NUCLEUS_IOU).any(axis=1)))


def _rows(detections: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(values) if name == "reference" else np.asarray(values)[rows]
        for name, values in detections.items()
    }


def best_match(reference: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each reference box (..., R, 4) the row (..., R) of the box (..., B, 4), B > 0, of largest IoU, and that IoU.

    Classes do not matter, and there is no least IoU.
    """
    iou = pairwise_iou(reference, boxes)
    return iou.argmax(axis=-1), iou.max(axis=-1)
