"""Baseline CALD: consistency-based active learning for detection (Yu et al. 2022; docs/reproducibility.md 3.6).

Stage one keeps the tiles whose detections change most when the tile is flipped, cut, shrunk or turned. Stage two
queries those of them whose classes differ most from the labelled ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import ConfigError
from .base import Detections, Query, QueryContext, Selection, Strategy, register, require_pool
from .box_match import acquisition_set, best_match
from .posteriors import confidence, softmax


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of distributions along the last axis, natural logarithm: 0 to ln 2."""
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    middle = (p + q) / 2

    def relative(a: np.ndarray) -> np.ndarray:
        ratio = np.divide(a, middle, out=np.ones_like(middle), where=a > 0)
        return (a * np.log(ratio)).sum(axis=-1)

    return 0.5 * relative(p) + 0.5 * relative(q)


def agreement(iou: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """m (R,) in [0, 2]: IoU, plus how equal and how sure the posteriors p and q (R, K + 1; background last) are."""
    return iou + 0.5 * (1 - divergence(p, q)) * (confidence(p) + confidence(q))


def consistency(m: np.ndarray, *, beta: float) -> float:
    """M_a of a tile in one view: min over boxes of |m - beta|, at most 1; the lower, the more informative.

    Boxes of middling agreement count, because full agreement (2) is easy and none at all is mostly a false detection.
    """
    return float(np.abs(m - beta).min(initial=1.0))


def spread(scores: np.ndarray, limit: int) -> np.ndarray:
    """Rows of all detections (B,), best score first; above `limit`, so many of them, evenly spaced."""
    order = np.argsort(-np.round(np.asarray(scores, dtype=np.float64), 5), kind="stable")
    if len(order) <= limit:
        return order
    return order[np.rint(np.linspace(0, len(order) - 1, limit)).astype(int)]


def best_scores(classes: np.ndarray, scores: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,): the largest score of each class, 0 where there is none."""
    best = np.zeros(num_classes)
    np.maximum.at(best, np.asarray(classes, dtype=int), scores)
    return best


@dataclass(frozen=True)
class CALDSettings:
    """Raises ConfigError for a value that cannot work."""

    # Views of a tile to compare it with, one more pass over the pool for each: F flip, C cut-out, D down-scaling,
    # R rotation, G Gaussian noise (std 16), S salt and pepper (a tenth of the pixels).
    augs: str = "FCDR"
    # The agreement (0 to 2) of the boxes that make a tile most informative.
    beta: float = 1.3
    # Stage one keeps DELTA * budget tiles.
    delta: float = 1.2
    # Factor of D, ...
    scale: float = 0.8
    # ... applied to the network input. True: to the tile, as in the authors' code; the resize to INPUT.MIN_SIZE_TEST
    # undoes it then, and a blur is left.
    downsize_before_resize: bool = False
    # Degrees of R, counter-clockwise.
    rotation: float = 5.0
    # C blackens so many rectangles at most, ...
    cut_num: int = 2
    # ... their height and width between these shares of the tile's, ...
    cut_size: Sequence[float] = (0.05, 0.2)
    # ... which cover between these shares of the detected box that they cover most.
    cut_overlap: Sequence[float] = (0.1, 0.4)
    # Detections of a tile that are compared at most, evenly spaced by score.
    max_ref: int = 50
    # False leaves out stage two, which prefers tiles of other classes than the labelled ones.
    mutual: bool = True

    def __post_init__(self) -> None:
        letters = "FCDRGS"
        if not self.augs or not set(self.augs) <= set(letters) or len(set(self.augs)) < len(self.augs):
            raise ConfigError(
                f"OSAL.CALD.AUGS: {self.augs!r} must be one or more of the letters {letters}, each once"
            )
        ranges = (("CUT_SIZE", self.cut_size), ("CUT_OVERLAP", self.cut_overlap), ("SCALE", (self.scale,)))
        for key, values in ranges:
            if not 0 < min(values) <= max(values) <= 1 or list(values) != sorted(values):
                raise ConfigError(f"OSAL.CALD.{key}: {values} must lie in (0, 1], the smaller value first")
        if len(self.cut_size) != 2 or len(self.cut_overlap) != 2:
            raise ConfigError(
                "OSAL.CALD.CUT_SIZE and CUT_OVERLAP: give two values each, the ends of the range"
            )
        if not 0 <= self.rotation < 90 or self.cut_num < 1 or self.max_ref < 1:
            raise ConfigError("OSAL.CALD: ROTATION must be in [0, 90), CUT_NUM and MAX_REF at least 1")

    @property
    def views(self) -> tuple[str, ...]:
        """The names (scoring/views.py) of the views that AUGS asks for."""
        cut = ",".join(f"{value:g}" for value in (self.cut_num, *self.cut_size, *self.cut_overlap))
        down = "shrink" if self.downsize_before_resize else "downscale"
        names = {
            "F": "hflip", "C": f"cutout:{cut}", "D": f"{down}:{self.scale:g}", "R": f"rotate:{self.rotation:g}",
            "G": "noise:16", "S": "salt_pepper:0.1",
        }  # fmt: skip
        return tuple(names[letter] for letter in self.augs)


@register
class CALD(Strategy):
    """See the module. A tile without detections is the most informative one."""

    name = "cald"
    Settings, node = CALDSettings, "CALD"
    needs = {"target": ("logits",)}
    cost = {"target": "5 * U"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Detections(over=context.pool, fields=("logits",))
        clean, boxes, posterior, seen = {}, {}, {}, {}
        for key in context.pool:
            clean[key] = acquisition_set(table[key], score_thresh=context.score_thresh)
            rows = spread(clean[key]["scores"], self.settings.max_ref)
            boxes[key] = clean[key]["boxes"][rows]
            posterior[key] = softmax(clean[key]["logits"][rows])
            seen[key] = self._best_scores(clean[key])
        total = dict.fromkeys(context.pool, 0.0)
        for view in self.settings.views:
            table = yield Detections(over=context.pool, fields=("logits",), view=view, reference=boxes)
            for key in context.pool:
                found = acquisition_set(table[key], score_thresh=context.score_thresh)
                seen[key] = seen[key] + self._best_scores(found)
                if len(boxes[key]) and len(found["boxes"]):
                    rows, iou = best_match(found["reference"], found["boxes"])
                    m = agreement(iou, posterior[key], softmax(found["logits"])[rows])
                    total[key] += consistency(m, beta=self.settings.beta) / len(self.settings.views)
        scores = {
            "n_detected": {k: float(len(clean[k]["scores"])) for k in context.pool},
            "consistency": total,
            "score": {k: -value for k, value in total.items()},
        }
        ranked = context.rank(context.pool, scores["score"])
        if self.settings.mutual:
            # At least the budget itself, so that a delta below one cannot starve stage two.
            ranked = ranked[: max(context.size, math.floor(self.settings.delta * context.size))]
            unseen, scores["mutual"] = self._mutual(context, {k: seen[k] for k in ranked})
            # The reference code selects every tile in which nothing is seen, above the budget if need be; capped here.
            ranked_by_classes = context.rank(ranked, unseen, scores["mutual"])
            selected = tuple(ranked_by_classes[: context.size])
        else:
            selected = tuple(ranked[: context.size])
        reasons = {k: self._reason(k, rank, scores) for rank, k in enumerate(selected, start=1)}
        return Selection(selected=selected, scores=scores, reasons=reasons, candidates=tuple(ranked))

    def _best_scores(self, detections: Mapping[str, np.ndarray]) -> np.ndarray:
        num_classes = detections["logits"].shape[1] - 1
        return best_scores(detections["classes"], detections["scores"], num_classes)

    def _mutual(
        self, context: QueryContext, seen: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """For each key: 1 if no class is seen, else 0; divergence of its classes from the labelled tiles'.

        Unknown nuclei take no part: the vectors are over the known classes.
        """
        num_classes = len(next(iter(seen.values())))
        counts = np.zeros(num_classes)
        for index, name in enumerate(context.known_classes):
            numbers = [tile.get(name, 0) for tile in context.labelled.values()]
            counts[index] = np.mean(numbers) if numbers else 0.0
        labelled = softmax(counts)
        unseen = {k: float(not vector.any()) for k, vector in seen.items()}
        views = len(self.settings.views) + 1
        return unseen, {k: float(divergence(labelled, softmax(v / views))) for k, v in seen.items()}

    def _reason(self, key: str, rank: int, scores: Mapping[str, Mapping[str, float]]) -> str:
        if not scores["n_detected"][key]:
            return f"rank {rank}: no nucleus is detected"
        text = f"rank {rank}: consistency {scores['consistency'][key]:.3f} (lower is queried)"
        if "mutual" in scores:
            text += f", divergence from the labelled classes {scores['mutual'][key]:.4f}"
        return text
