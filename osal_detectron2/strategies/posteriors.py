"""Class posteriors of detections and what is read off them."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64: logits (B, K + 1), the background last, to posteriors."""
    logits = np.asarray(logits, dtype=np.float64)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def confidence(posterior: np.ndarray) -> np.ndarray:
    """Pmax (B,): the largest posterior of a class that is not the background."""
    return posterior[:, :-1].max(axis=1)


def entropy(posterior: np.ndarray) -> np.ndarray:
    """Entropy (B,) in nats of posteriors (B, C)."""
    p = np.asarray(posterior, dtype=np.float64)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
