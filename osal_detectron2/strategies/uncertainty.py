"""Uncertainty: the tiles whose detections the target classifies least surely (docs/reproducibility.md 3.2).

Uncertainty sampling with the posterior of the closed-set detector: what it cannot tell from the known classes is as
uncertain as what it has not learnt yet, which is why unknown nuclei attract this method.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..core.errors import check_choice
from .base import Detections, Query, QueryContext, Selection, Strategy, register, require_pool
from .posteriors import confidence, entropy, softmax
from .tile_means import localization_uncertainty

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
    # Multiply by LI (Eq. 6), as OSAL-ND, LfOSA and OpenAL do: for a comparison by the criterion of classes alone.
    use_li: bool = False

    def __post_init__(self) -> None:
        check_choice("OSAL.UNCERTAINTY.MODE", self.mode, MODES)
        check_choice("OSAL.UNCERTAINTY.AGG", self.agg, AGGREGATIONS)


@register
class Uncertainty(Strategy):
    """The tiles of the largest class uncertainty, all at once.

    A tile without detections comes first: a closed-set method takes it for one where the detector misses everything,
    hence the most informative (docs/reproducibility.md 1.6; public implementations disagree). With
    OSAL.SCORING.KNOWN_BOXES_ONLY it comes last: what holds nothing that looks known is not what the budget is for.
    """

    name = "uncertainty"
    needs = {"target": ("logits",)}
    Settings, node = UncertaintySettings, "UNCERTAINTY"
    cost = {"target": "U"}

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        if self.settings.use_li:
            self.needs = {"target": ("logits", "loc_tightness")}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Detections(over=context.pool, fields=self.needs["target"])
        both = {
            k: tile_score(
                table[k], mode=self.settings.mode, agg=self.settings.agg, score_thresh=context.score_thresh
            )
            for k in context.pool
        }
        score = {k: value for k, (value, _) in both.items()}
        n_detected = {k: float(n) for k, (_, n) in both.items()}
        scores = {"score": score, "n_detected": n_detected}
        if self.settings.use_li:
            scores["li"] = {
                k: localization_uncertainty(table[k], score_thresh=context.score_thresh) for k in context.pool
            }
            scores["score"] = {k: score[k] * scores["li"][k] for k in context.pool}
        first = 0.0 if context.known_boxes_only else 1.0
        empty = {k: first * (n == 0) for k, n in n_detected.items()}
        selected = tuple(context.rank(context.pool, empty, scores["score"])[: context.size])
        return Selection(
            selected=selected,
            scores=scores,
            reasons={
                k: self._reason(k, rank, scores, bool(first)) for rank, k in enumerate(selected, start=1)
            },
        )

    def _reason(self, key: str, rank: int, scores: dict[str, dict[str, float]], first: bool) -> str:
        found, score = scores["n_detected"][key], scores["score"][key]
        if found == 0:
            what = "is detected, which counts as most uncertain" if first else "that looks known is detected"
            return f"rank {rank}: nothing {what}"
        what = f"{self.settings.agg} {self.settings.mode.replace('_', ' ')}"
        if self.settings.use_li:
            what += " times box uncertainty"
        return f"rank {rank}: {what} {score:.3f}, {found:.0f} detections"
