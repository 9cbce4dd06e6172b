"""Means over the detections of a tile that need one field of any open-set head (methods sections 2.7 and 3.9)."""

from collections.abc import Mapping

import numpy as np


def mean_looseness(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> float:
    """LI (paper Eq. 6): mean of 1 - loc_tightness (B,) over detections at or above `score_thresh`; 0 without any."""
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    tightness = np.asarray(detections["loc_tightness"], dtype=np.float64)[kept]
    return float(1.0 - tightness.mean()) if kept.any() else 0.0


def mean_entropy(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> float:
    """Mean entropy, in nats, of softmax(logits (B, K + 1)) over the same detections; 0 without any."""
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    if not kept.any():
        return 0.0
    logits = np.asarray(detections["logits"], dtype=np.float64)[kept]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(np.exp(log_p) * log_p).sum(axis=1).mean())
