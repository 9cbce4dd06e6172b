"""OSAL-ND+: tiles with many nuclei that look known, of the classes that have few labels, unlike the labelled ones.

Where it departs from OSAL-ND (each part can be switched off by a key of OSAL.PLUS):
  purity as an expectation   a nucleus counts with the auxiliary classifier's probability of being known, not with
                             the yes or no of two prototypes;
  information as a sum       a tile is worth the sum over its nuclei. A mean, as in Eqs. 5 and 6, prefers the tile with
                             one doubtful nucleus to the tile with fifty;
  balance of the classes     the batch maximises sum_c log(1 + labelled_c + expected_c), greedily: a class with few
                             labels is worth more, and each further nucleus of one class less;
  diversity in the batch     a tile is worth less the nearer it is to a labelled or chosen tile.
"""

from collections.abc import Sequence

import numpy as np

from ..core.errors import ConfigError
from .base import Pass, Query, QueryContext, Selection, Strategy, register, require_pool
from .base import Table as Tables
from .box_match import best_match
from .coreset import nearest_distance
from .posteriors import entropy, softmax

INFORMATION = ("count", "entropy", "evidence")


@register
class OSALNDPlus(Strategy):
    """See the module.

    Args:
        information: of one nucleus: "count" 1; "entropy" of the target's posterior over K + 1 classes divided by
            ln(K + 1); "evidence" Un * (1 - tightness) of Eqs. 4 and 6 for this box.
        purity: weigh a nucleus by the probability of being known.
        balance: of the classes; without it, the sum over the classes.
        diversity: weigh a tile by its distance from the labelled and chosen ones.
        target_score_thresh: target detections below it take no part.
    """

    name = "osal_nd_plus"
    node = "PLUS"
    # The auxiliary as a plain detector of known and unknown: nothing here reads a prototype.
    overrides = {"OSAL.PROTOTYPE.ENABLED": False}
    needs = {"auxiliary": ("logits",), "target": ("logits", "cls_uncertainty", "loc_tightness")}

    def __init__(
        self,
        *,
        information: str = "count",
        purity: bool = True,
        balance: bool = True,
        diversity: bool = True,
        target_score_thresh: float = 0.05,
    ) -> None:
        if information not in INFORMATION:
            raise ConfigError(
                f"OSAL.PLUS.INFORMATION: {information!r} is not one of {', '.join(INFORMATION)}"
            )
        self.information, self.purity, self.balance = information, purity, balance
        self.diversity, self.target_score_thresh = diversity, target_score_thresh

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        keys = context.rank(context.pool)  # ties go to the first in this order
        target = yield Pass(over=context.pool, fields=self.needs["target"])
        worth = {k: self._information(target[k]) for k in keys}
        if self.purity:
            auxiliary = yield Pass(over=context.pool, detector="auxiliary", fields=("logits",))
            worth = {k: worth[k] * looks_known(target[k]["boxes"], auxiliary[k]) for k in keys}
        expected = np.stack([by_class(worth[k], target[k]["logits"]) for k in keys])
        points, centres = None, ()
        if self.diversity:
            labelled = sorted(context.labelled)
            images = yield Pass(over=(*keys, *labelled), source="image")
            points = np.stack([images[k]["image_feature"] for k in keys])
            centres = np.array([images[k]["image_feature"] for k in labelled]).reshape(-1, points.shape[1])
        have = [sum(tile.get(c, 0) for tile in context.labelled.values()) for c in context.known_classes]
        chosen, gains = greedy_batch(
            expected, have if self.balance else None, points, centres, size=context.size
        )
        selected = tuple(keys[i] for i in chosen)
        scores = {
            "expected_known": dict(zip(keys, expected.sum(axis=1).tolist())),
            "gain": dict(zip(selected, gains)),
        }
        reasons = {
            k: f"rank {i}: known nuclei expected, by class "
            + ", ".join(f"{n} {v:.1f}" for n, v in zip(context.known_classes, expected[c]))
            for i, (c, k) in enumerate(zip(chosen, selected), start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons)

    def _information(self, detections: Tables) -> np.ndarray:
        """(B,) of one tile; 0 for boxes below the threshold."""
        kept = np.asarray(detections["scores"]) >= self.target_score_thresh
        if self.information == "count":
            return kept.astype(np.float64)
        if self.information == "entropy":
            posterior = softmax(detections["logits"])
            return kept * entropy(posterior) / np.log(posterior.shape[1])
        return (
            kept * detections["cls_uncertainty"] * (1.0 - np.asarray(detections["loc_tightness"], np.float64))
        )


def by_class(worth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Sum (K,) over boxes of `worth` (B,), each divided among the classes as its posterior is, logits (B, K + 1)."""
    share = softmax(logits)[:, :-1]
    return (worth[:, None] * share / share.sum(axis=1, keepdims=True).clip(1e-12)).sum(axis=0)


def greedy_batch(
    expected: np.ndarray,
    have: Sequence[float] | None,
    points: np.ndarray | None,
    centres: np.ndarray,
    *,
    size: int,
) -> tuple[list[int], list[float]]:
    """Tiles taken one by one, each the best beside those taken before.

    A tile is worth what it adds to sum_c log(1 + have_c + expected_c), times its distance from the nearest centre or
    chosen tile, both relative to the best tile's.

    Args:
        expected: (T, K) nuclei expected in each tile, T >= size.
        have: (K,) nuclei labelled; None: the plain sum counts.
        points: (T, D) features of the tiles, centres: (m, D) of the labelled ones; points None: no distance counts.

    Returns:
        Rows in the order of choice, the first of equals, and the worth of each when it was chosen.
    """
    sums = None if have is None else 1.0 + np.asarray(have, dtype=np.float64)
    distance = np.ones(len(expected))
    if points is not None:
        distance = nearest_distance(points, centres if len(centres) else points.mean(axis=0, keepdims=True))
    scale = max(distance.max(), 1e-12)
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(size):
        added = expected.sum(axis=1) if sums is None else np.log1p(expected / sums).sum(axis=1)
        worth = added / max(added.max(), 1e-12) * distance / scale
        worth[chosen] = -1.0
        best = int(np.argmax(worth.round(5)))  # rounded as in context.rank: float32 noise decides nothing
        chosen.append(best)
        gains.append(float(worth[best]))
        if sums is not None:
            sums = sums + expected[best]
        if points is not None:
            distance = np.minimum(distance, nearest_distance(points, points[best : best + 1]))
    return chosen, gains


def looks_known(boxes: np.ndarray, auxiliary: Tables, *, min_iou: float = 0.5) -> np.ndarray:
    """Probability (B,) that each target box is a known nucleus, by the auxiliary detector.

    Args:
        boxes: (B, 4) xyxy target boxes.
        auxiliary: boxes (A, 4) and logits (A, 3) known, unknown, background of the same tile.
        min_iou: a target box takes P(known) of the auxiliary box that it overlaps most; 0 where no overlap
            reaches `min_iou`: the auxiliary detector sees no nucleus there.
    """
    if not len(boxes) or not len(auxiliary["boxes"]):
        return np.zeros(len(boxes))
    rows, overlap = best_match(boxes, auxiliary["boxes"])
    return np.where(overlap >= min_iou, softmax(auxiliary["logits"])[rows, 0], 0.0)
