"""Uncertainty: the tiles whose detections the target classifies least surely (docs/reproducibility.md 3.2).

Uncertainty sampling with the posterior of the closed-set detector: what it cannot tell from the known classes is as
uncertain as what it has not learnt yet, which is why unknown nuclei attract this method.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..core.errors import ConfigError
from .base import Detections, Query, QueryContext, Selection, Strategy, register, require_pool
from .posteriors import confidence, entropy, softmax

MODES = ("entropy", "least_confidence", "margin")
AGGREGATIONS: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "max": np.max, "sum": np.sum}


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


@dataclass(frozen=True)
class UncertaintySettings:
    """Raises ConfigError for an unknown mode or aggregation."""

    # Of a detection, from its posterior with background: "entropy"; "least_confidence" 1 - the largest known class;
    # "margin" 1 - the difference of the two largest.
    mode: str = "entropy"
    # Of a tile: "mean", "max" or "sum" over its detections. The last two favour crowded tiles.
    agg: str = "mean"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"OSAL.UNCERTAINTY.MODE: {self.mode!r} is not one of {', '.join(MODES)}")
        if self.agg not in AGGREGATIONS:
            raise ConfigError(f"OSAL.UNCERTAINTY.AGG: {self.agg!r} is not one of {', '.join(AGGREGATIONS)}")


@register
class Uncertainty(Strategy):
    """The tiles of the largest class uncertainty, all at once.

    A tile without detections comes first: a closed-set method takes it for one where the detector misses everything,
    hence the most informative (docs/reproducibility.md 1.6; public implementations disagree).
    """

    name = "uncertainty"
    needs = {"target": ("logits",)}
    Settings, node = UncertaintySettings, "UNCERTAINTY"
    cost = {"target": "U"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Detections(over=context.pool, fields=("logits",))
        both = {
            k: tile_score(
                table[k], mode=self.settings.mode, agg=self.settings.agg, score_thresh=context.score_thresh
            )
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
        what = f"{self.settings.agg} {self.settings.mode.replace('_', ' ')}"
        return f"rank {rank}: {what} {score:.3f}, {n_detected} detections"
