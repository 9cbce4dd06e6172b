"""Uncertainty: the tiles whose detections the target classifies least surely (methods section 3.2).

Uncertainty sampling with the posterior of the closed-set detector: what it cannot tell from the known classes is as
uncertain as what it has not learnt yet, which is why unknown nuclei attract this method.
"""

from collections.abc import Mapping

import numpy as np

from ..core.errors import ConfigError
from .base import Pass, Query, QueryContext, Selection, Strategy, register, require_pool
from .posteriors import confidence, entropy, softmax

MODES = ("entropy", "least_confidence", "margin")
AGGREGATIONS = {"mean": np.mean, "max": np.max, "sum": np.sum}


def box_uncertainty(posteriors: np.ndarray, *, mode: str) -> np.ndarray:
    """Uncertainty (B,) of posteriors (B, K + 1), background last.

    Args:
        mode: "entropy" in nats over all K + 1 classes, "least_confidence" 1 - the largest probability of a known
            class, "margin" 1 - the difference of the two largest of all K + 1.
    """
    p = np.asarray(posteriors, dtype=np.float64)
    if mode == "entropy":
        return entropy(p)
    if mode == "least_confidence":
        return 1.0 - confidence(p)
    if mode == "margin":
        second, first = np.sort(p, axis=1)[:, -2:].T
        return 1.0 - (first - second)
    raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES)}")


def tile_score(
    detections: Mapping[str, np.ndarray], *, mode: str, agg: str, score_thresh: float
) -> tuple[float, int]:
    """`agg` of the box uncertainties of one tile, over its detections at or above `score_thresh`.

    Args:
        detections: scores (B,) and logits (B, K + 1).

    Returns:
        (score, number of such detections); (0, 0) for a tile without any.
    """
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    if not kept.any():
        return 0.0, 0
    values = box_uncertainty(softmax(np.asarray(detections["logits"])[kept]), mode=mode)
    return float(AGGREGATIONS[agg](values)), len(values)


@register
class Uncertainty(Strategy):
    """The tiles of the largest class uncertainty, all at once.

    A tile without detections comes first: a closed-set method takes it for one where the detector misses everything,
    hence the most informative (methods section 1.6; public implementations disagree).

    Args:
        mode: uncertainty of a detection, see `box_uncertainty`.
        agg: "mean" over the detections of a tile does not depend on their number; "max" and "sum" favour crowded
            tiles.
        target_score_thresh: detections below it take no part.

    Raises:
        ConfigError: unknown `mode` or `agg`.
    """

    name = "uncertainty"
    needs = {"target": ("logits",)}
    node = "UNCERTAINTY"

    def __init__(
        self, *, mode: str = "entropy", agg: str = "mean", target_score_thresh: float = 0.05
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"OSAL.UNCERTAINTY.MODE: {mode!r} is not one of {', '.join(MODES)}")
        if agg not in AGGREGATIONS:
            raise ConfigError(f"OSAL.UNCERTAINTY.AGG: {agg!r} is not one of {', '.join(AGGREGATIONS)}")
        self.mode, self.agg, self.target_score_thresh = mode, agg, target_score_thresh

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Pass(over=context.pool, fields=("logits",))
        both = {
            k: tile_score(table[k], mode=self.mode, agg=self.agg, score_thresh=self.target_score_thresh)
            for k in context.pool
        }
        score = {k: value for k, (value, _) in both.items()}
        n_detected = {k: float(n) for k, (_, n) in both.items()}
        empty = {k: float(n == 0) for k, (_, n) in both.items()}
        selected = tuple(context.rank(context.pool, empty, score)[: context.size])
        return Selection(
            selected=selected,
            scores={"score": score, "n_detected": n_detected},
            reasons={k: self._reason(rank, *both[k]) for rank, k in enumerate(selected, start=1)},
        )

    def _reason(self, rank: int, score: float, n_detected: int) -> str:
        if n_detected == 0:
            return f"rank {rank}: nothing is detected, which counts as most uncertain"
        return f"rank {rank}: {self.agg} {self.mode.replace('_', ' ')} {score:.3f}, {n_detected} detections"
