"""Which box of one set of detections is which of another (methods sections 3.4 and 3.6)."""

from collections.abc import Mapping

import numpy as np


def acquisition_set(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> dict[str, np.ndarray]:
    """The detections at or above `score_thresh` (methods section 1.2); columns not of their length, as "reference",
    are left as they are."""
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    return {
        name: np.asarray(values) if name == "reference" else np.asarray(values)[kept]
        for name, values in detections.items()
    }


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (R, B) of boxes (R, 4) and (B, 4) xyxy, without the "+1" of older codes; 0 between empty boxes."""
    first, second = np.asarray(first, dtype=np.float64)[:, None], np.asarray(second, dtype=np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def best_match(reference: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each reference box (R, 4) the row (R,) of the box (B, 4), B > 0, of largest IoU, and that IoU (R,).

    Classes do not matter, and there is no least IoU.
    """
    iou = pairwise_iou(reference, boxes)
    rows = iou.argmax(axis=1)
    return rows, iou[np.arange(len(rows)), rows]
