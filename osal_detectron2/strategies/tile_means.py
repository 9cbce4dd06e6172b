"""Means over the detections of a tile (paper Eqs. 5 and 6; docs/reproducibility.md 2.5, 2.7 and 3.9)."""

from collections.abc import Mapping

import numpy as np

from .posteriors import entropy, softmax


def mean_vacuity(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> float:
    """CI (Eq. 5): mean of cls_uncertainty (B,) over detections at or above `score_thresh`; 0 without any."""
    return _mean(detections, detections["cls_uncertainty"], score_thresh)


def localization_uncertainty(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> float:
    """LI (Eq. 6): mean of 1 - loc_tightness (B,) over these detections; 0 for none (docs/reproducibility.md row 20)."""
    return _mean(detections, 1.0 - np.asarray(detections["loc_tightness"], dtype=np.float64), score_thresh)


def mean_entropy(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> float:
    """Mean entropy, in nats, of softmax(logits (B, K + 1)) over the same detections; 0 without any."""
    return _mean(detections, entropy(softmax(detections["logits"])), score_thresh)


def _mean(detections: Mapping[str, np.ndarray], values: np.ndarray, score_thresh: float) -> float:
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    return float(np.asarray(values, dtype=np.float64)[kept].mean()) if kept.any() else 0.0
