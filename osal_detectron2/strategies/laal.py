"""Baseline LAAL: localisation-aware active learning (Kao et al. 2018; docs/reproducibility.md 3.4).

Localisation tightness (LT) asks how far a box moved from its proposal, localisation stability (LS) how far it moves
when noise is added to the tile. Tiles without detections are the most informative ones (docs/reproducibility.md 1.6).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import ConfigError, check_choice
from .base import Detections, Pass, Query, QueryContext, Selection, Strategy, Table, register, require_pool
from .box_match import acquisition_set, best_match
from .posteriors import confidence, softmax

MODES = ("ls_c", "lt_c", "three_in_one")


def tightness_score(tightness: np.ndarray, pmax: np.ndarray) -> float:
    """LT/C of a tile, min |T + Pmax - 1| over its boxes; the smaller, the more informative; 0 without boxes.

    Small for a box that is tight but of unsure class, and for one that is loose but of sure class.

    Args:
        tightness: IoU (B,) of box and proposal.
        pmax: (B,), see `posteriors.confidence`.
    """
    if not len(pmax):
        return 0.0
    return float(np.abs(np.asarray(tightness, dtype=np.float64) + pmax - 1.0).min())


def stability(pmax: np.ndarray, overlap: np.ndarray) -> float:
    """S_I of a tile: mean over its reference boxes of S_B, weighted with Pmax; 0 without boxes.

    Args:
        pmax: (R,).
        overlap: S_B (R,), means over the noise levels of the IoU with the best matching box of the noisy tile.
    """
    return float((pmax * overlap).sum() / pmax.sum()) if pmax.sum() > 0 else 0.0


def mean_ranks(columns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over columns of a key's rank in each, ascending from 0; equal values (to 1e-5) share their mean rank."""
    keys = sorted(columns[0])
    total = np.zeros(len(keys))
    for column in columns:
        values = np.round([column[k] for k in keys], 5)
        ordered = np.sort(values)
        total += (
            np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1
        ) / 2
    return dict(zip(keys, (total / len(columns)).tolist()))


@dataclass(frozen=True)
class LAALSettings:
    """Raises ConfigError for an unknown mode, no or negative sigmas, and max_ref below 1."""

    # "ls_c" stability under noise and class uncertainty; "lt_c" tightness and class certainty, the only one that needs
    # no noise; "three_in_one" the mean of the tiles' ranks by class uncertainty, stability and tightness.
    mode: str = "ls_c"
    # Standard deviations of the noise on the 0-255 scale; one more pass over the pool for each.
    sigmas: Sequence[float] = (8, 16, 24, 32, 40, 48)
    # The stability of a tile is that of so many detections at most, the surest ones.
    max_ref: int = 30
    # Weight of stability against class uncertainty in "ls_c", lambda of the paper.
    stability_weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("OSAL.LAAL.MODE", self.mode, MODES)
        if not self.sigmas or min(self.sigmas) < 0 or len(set(self.sigmas)) < len(self.sigmas):
            raise ConfigError(
                f"OSAL.LAAL.SIGMAS: {list(self.sigmas)} must be one or more different values of at least 0"
            )
        if self.max_ref < 1:
            raise ConfigError(f"OSAL.LAAL.MAX_REF: {self.max_ref} must be at least 1")


@register
class LAAL(Strategy):
    """Queries the tiles of largest score: U_C - lambda * S_I with U_C = max (1 - Pmax), -LT/C, or the mean of the three
    ranks of U_C, -S_I and -LT/C in the pool.
    """

    name = "laal"
    Settings, node = LAALSettings, "LAAL"
    needs = {"target": ("loc_tightness", "logits")}
    cost = {"target": "7 * U"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        scores: dict[str, dict[str, float]] = {}
        fields = self.needs["target"] if self.settings.mode != "ls_c" else ("logits",)
        table = yield Detections(over=context.pool, fields=fields)
        clean = {k: acquisition_set(table[k], score_thresh=context.score_thresh) for k in context.pool}
        pmax = {k: confidence(softmax(clean[k]["logits"])) for k in context.pool}
        scores["n_detected"] = {k: float(len(p)) for k, p in pmax.items()}
        scores["class_uncertainty"] = {
            k: float((1 - p).max(initial=0.0)) if len(p) else 1.0 for k, p in pmax.items()
        }
        if self.settings.mode != "ls_c":
            scores["tightness"] = {
                k: tightness_score(clean[k]["loc_tightness"], pmax[k]) for k in context.pool
            }
        if self.settings.mode != "lt_c":
            scores["stability"] = yield from self._stability(
                context, {k: clean[k]["boxes"] for k in context.pool}, pmax
            )
        scores["score"] = self._combine(scores)
        selected = tuple(context.rank(context.pool, scores["score"])[: context.size])
        reasons = {k: self._reason(k, rank, scores) for rank, k in enumerate(selected, start=1)}
        return Selection(selected=selected, scores=scores, reasons=reasons)

    def _stability(
        self, context: QueryContext, boxes: Mapping[str, np.ndarray], pmax: Mapping[str, np.ndarray]
    ) -> Generator[Pass, Table, dict[str, float]]:
        """S_I of each tile; yields a pass for each noise level."""
        rows = {
            k: np.argsort(-np.round(pmax[k], 5), kind="stable")[: self.settings.max_ref] for k in context.pool
        }
        overlap = {k: np.zeros(len(rows[k])) for k in context.pool}
        for sigma in self.settings.sigmas:
            table = yield Detections(over=context.pool, view=f"noise:{sigma:g}")
            for key in context.pool:
                noisy = acquisition_set(table[key], score_thresh=context.score_thresh)["boxes"]
                if len(noisy):
                    overlap[key] += best_match(boxes[key][rows[key]], noisy)[1] / len(self.settings.sigmas)
        return {k: stability(pmax[k][rows[k]], overlap[k]) for k in context.pool}

    def _combine(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        unsure = scores["class_uncertainty"]
        if self.settings.mode == "lt_c":
            return {k: -value for k, value in scores["tightness"].items()}
        if self.settings.mode == "ls_c":
            return {k: unsure[k] - self.settings.stability_weight * scores["stability"][k] for k in unsure}
        opposed = [{k: -value for k, value in scores[c].items()} for c in ("stability", "tightness")]
        return mean_ranks([unsure, *opposed])

    def _reason(self, key: str, rank: int, scores: Mapping[str, Mapping[str, float]]) -> str:
        if not scores["n_detected"][key]:
            return f"rank {rank}: no nucleus is detected"
        words = dict(class_uncertainty="class uncertainty", stability="stability", tightness="|T + Pmax - 1|")
        parts = [f"{text} {scores[c][key]:.3f}" for c, text in words.items() if c in scores]
        return f"rank {rank}: " + ", ".join(parts)
