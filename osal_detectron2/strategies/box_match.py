"""Which box of one set of detections is which of another (docs/reproducibility.md 3.4 and 3.6)."""

from collections.abc import Mapping

import numpy as np

from ..core.boxes import pairwise_iou


def acquisition_set(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> dict[str, np.ndarray]:
    """The detections from `score_thresh` on (docs/reproducibility.md 1.2); columns of another length, as "reference",
    are left as they are."""
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    return {
        name: np.asarray(values) if name == "reference" else np.asarray(values)[kept]
        for name, values in detections.items()
    }


def best_match(reference: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each reference box (..., R, 4) the row (..., R) of the box (..., B, 4), B > 0, of largest IoU, and that IoU.

    Classes do not matter, and there is no least IoU.
    """
    iou = pairwise_iou(reference, boxes)
    return iou.argmax(axis=-1), iou.max(axis=-1)
