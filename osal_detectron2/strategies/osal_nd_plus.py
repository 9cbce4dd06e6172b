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
from .lazy_greedy import first_largest
from .posteriors import softmax
from .prototype_count import nearer_known, warn_if_blind

CHUNK = 16  # tiles whose boxes are matched at a time


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
        expected = self.expected([auxiliary[k] for k in keys], [target[k] for k in keys], have)
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

    def expected(self, auxiliary: Sequence[Row], target: Sequence[Row], have: Sequence[float]) -> np.ndarray:
        """Nuclei (T, K) that each of T tiles is expected to hold of each known class.

        Args:
            auxiliary: boxes (A, 4), dist_known, dist_unknown (A,) of each tile.
            target: boxes (B, 4), logits (B, K + 1) of each tile.
            have: (K,) nuclei labelled.
        """
        shares = class_shares([row["boxes"] for row in auxiliary], target, have)
        if self.settings.purity:
            shares = [part[nearer_known(row)] for part, row in zip(shares, auxiliary)]
        return np.stack([part.sum(axis=0) for part in shares])


def class_shares(
    boxes: Sequence[np.ndarray], target: Sequence[Row], have: Sequence[float], *, min_iou: float = 0.5
) -> list[np.ndarray]:
    """Probability (A, K) of each class for boxes (A, 4) of each tile, given that they are known nuclei.

    It is the posterior of the target box that overlaps most; where none reaches `min_iou`, the classes are as frequent
    as among the labelled nuclei, have (K,).
    """
    posterior = softmax(np.concatenate([row["logits"] for row in target]))[:, :-1]
    posterior /= posterior.sum(axis=1, keepdims=True).clip(1e-12)
    frequency = 1.0 + np.asarray(have, dtype=np.float64)
    found, offered = (np.array([len(own) for own in of]) for of in (boxes, [row["boxes"] for row in target]))
    shares = np.tile(frequency / frequency.sum(), (found.sum(), 1))
    ends, first = found.cumsum(), offered.cumsum() - offered
    for start in range(0, len(boxes), CHUNK):
        tiles = slice(start, start + CHUNK)
        rows, overlap = best_match(padded(boxes[tiles]), padded([row["boxes"] for row in target[tiles]]))
        rows += first[tiles, None]
        real = np.arange(rows.shape[1]) < found[tiles, None]
        matched = np.flatnonzero(overlap[real] >= min_iou)
        shares[ends[start] - found[start] + matched] = posterior[rows[real][matched]]
    return np.split(shares, ends[:-1])


def padded(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """(T, N, 4) of T arrays (n, 4), N >= 1: empty boxes behind, which overlap nothing."""
    full = np.zeros((len(boxes), max([1, *map(len, boxes)]), 4))
    for row, own in zip(full, boxes):
        row[: len(own)] = own
    return full


def greedy_batch(
    expected: np.ndarray, have: Sequence[float] | None, *, size: int
) -> tuple[list[int], list[float]]:
    """Rows taken one by one, each adding most to sum_c log(1 + have_c + expected_c).

    The sum is submodular, so the batch reaches 1 - 1/e of what the best one adds, and what a row added before bounds
    what it adds now.

    Args:
        expected: (T, K) nuclei expected in each tile, T >= size.
        have: (K,) nuclei labelled; None: the nuclei count as they are, of whatever class.

    Returns:
        Rows in the order of choice, the first of equals, and what each added.
    """
    sums = None if have is None else 1.0 + np.asarray(have, dtype=np.float64)

    def added(rows: np.ndarray | slice) -> np.ndarray:
        return (expected[rows] if sums is None else np.log1p(expected[rows] / sums)).sum(axis=1)

    upper = added(slice(None))
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(size):
        best = first_largest(upper, added)
        chosen.append(best)
        gains.append(float(upper[best]))
        upper[best] = -np.inf
        if sums is not None:
            sums = sums + expected[best]
    return chosen, gains
