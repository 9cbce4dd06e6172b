"""OSAL-ND+: the tiles with most nuclei that look known, in batches that balance the classes.

Where it departs from OSAL-ND (benchmarks/README.md measures both parts):
  no stage two            CI and LI are means over boxes, highest for tiles with few boxes that are junk;
  balance of the classes  a batch maximises sum_c log(1 + labelled_c + expected_c), greedily: a nucleus of a class with
                          few labels is worth more, and each further one less. mAP is a mean over classes, and the
                          tiles with most nuclei are those of the smallest nuclei.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .base import Detections, Query, QueryContext, Row, Selection, Strategy, register, require_pool
from .box_match import best_match
from .posteriors import softmax
from .prototype_count import nearer_known, warn_if_blind


@dataclass(frozen=True)
class PlusSettings:
    """docs/strategies.md says what each part is for."""

    # Count the nuclei nearer to the known prototype; without it, all that the auxiliary detects.
    purity: bool = True
    # Prefer classes with few labels: what a tile adds to the sum over classes of the logarithm of their nuclei.
    balance: bool = True


@register
class OSALNDPlus(Strategy):
    """See the module."""

    name = "osal_nd_plus"
    Settings, node = PlusSettings, "PLUS"
    cost = {"target": "U", "auxiliary": "U", "auxiliary ground truth": "L"}
    needs = {"auxiliary": ("dist_known", "dist_unknown"), "target": ("logits",)}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        auxiliary = yield Detections(over=context.pool, detector="auxiliary", fields=self.needs["auxiliary"])
        warn_if_blind(auxiliary)
        target = yield Detections(over=context.pool, fields=self.needs["target"])
        have = [sum(tile.get(c, 0) for tile in context.labelled.values()) for c in context.known_classes]
        keys = context.rank(context.pool)  # equals go by this order
        expected = np.stack([self.expected(auxiliary[k], target[k], have) for k in keys])
        chosen, gains = greedy_batch(expected, have if self.settings.balance else None, size=context.size)
        selected = tuple(keys[i] for i in chosen)
        scores = {
            "expected_known": dict(zip(keys, expected.sum(axis=1).tolist())),
            "n_detected": {k: float(len(auxiliary[k]["boxes"])) for k in keys},
            "gain": dict(zip(selected, gains)),
        }
        reasons = {
            k: f"rank {rank}: expected "
            + ", ".join(f"{count:.1f} {name}" for name, count in zip(context.known_classes, expected[i]))
            for rank, (i, k) in enumerate(zip(chosen, selected), start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons)

    def expected(self, auxiliary: Row, target: Row, have: Sequence[float]) -> np.ndarray:
        """Nuclei (K,) that one tile is expected to hold of each known class.

        Args:
            auxiliary: boxes (A, 4), dist_known, dist_unknown (A,). target: boxes (B, 4), logits (B, K + 1).
            have: (K,) nuclei labelled.
        """
        shares = class_shares(auxiliary["boxes"], target, have)
        return (shares[nearer_known(auxiliary)] if self.settings.purity else shares).sum(axis=0)


def class_shares(
    boxes: np.ndarray, target: Row, have: Sequence[float], *, min_iou: float = 0.5
) -> np.ndarray:
    """Probability (A, K) of each class for boxes (A, 4), given that they are known nuclei.

    It is the posterior of the target box that overlaps most; where none reaches `min_iou`, the classes are as frequent
    as among the labelled nuclei, have (K,).
    """
    frequency = 1.0 + np.asarray(have, dtype=np.float64)
    shares = np.tile(frequency / frequency.sum(), (len(boxes), 1))
    if len(boxes) and len(target["boxes"]):
        rows, overlap = best_match(boxes, target["boxes"])
        posterior = softmax(target["logits"])[rows, :-1]
        posterior /= posterior.sum(axis=1, keepdims=True).clip(1e-12)
        shares = np.where((overlap >= min_iou)[:, None], posterior, shares)
    return shares


def greedy_batch(
    expected: np.ndarray, have: Sequence[float] | None, *, size: int
) -> tuple[list[int], list[float]]:
    """Rows taken one by one, each adding most to sum_c log(1 + have_c + expected_c).

    The sum is submodular, so the batch reaches 1 - 1/e of what the best one adds.

    Args:
        expected: (T, K) nuclei expected in each tile, T >= size.
        have: (K,) nuclei labelled; None: the nuclei count as they are, of whatever class.

    Returns:
        Rows in the order of choice, the first of equals, and what each added.
    """
    sums = None if have is None else 1.0 + np.asarray(have, dtype=np.float64)
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(size):
        added = expected.sum(axis=1) if sums is None else np.log1p(expected / sums).sum(axis=1)
        added[chosen] = -1.0
        best = int(np.argmax(added.round(5)))  # rounded as in context.rank: float32 noise decides nothing
        chosen.append(best)
        gains.append(float(added[best]))
        if sums is not None:
            sums = sums + expected[best]
    return chosen, gains
