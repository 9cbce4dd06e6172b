"""OSAL-ND+: the tiles with most nuclei that look known, in batches that balance the classes.

Where it departs from OSAL-ND (benchmarks/README.md measures both parts):
  no stage two            CI and LI are means over boxes, highest for tiles with few boxes that are junk;
  balance of the classes  a batch maximises sum_c log(1 + labelled_c + expected_c), greedily: a nucleus of a class with
                          few labels is worth more, and each further one less. mAP is a mean over classes, and the
                          tiles with most nuclei are those of the smallest nuclei.
Who pays by the nucleus, known or not, can ask for most per nucleus (COST) instead of most per tile.
"""

from collections.abc import Sequence

import numpy as np

from ..core.errors import ConfigError
from .base import Pass, Query, QueryContext, Selection, Strategy, register, require_pool
from .base import Table as Tables
from .box_match import best_match
from .posteriors import softmax
from .prototype_count import nearer_known, warn_if_blind

COSTS = ("tile", "nucleus")


@register
class OSALNDPlus(Strategy):
    """See the module.

    Args:
        purity: count the auxiliary detections nearer to the known prototype, as PCSS does; without it, all.
        balance: of the classes; without it, the sum over the classes.
        cost: of a tile, which divides what it adds. "tile": all cost the same; "nucleus": tile_cost + all nuclei that
            the auxiliary detects.
        tile_cost: what a tile costs beside its nuclei, in nuclei; at least 0.

    Raises:
        ConfigError: another cost, or a negative one.
    """

    name = "osal_nd_plus"
    node = "PLUS"
    needs = {"auxiliary": ("dist_known", "dist_unknown"), "target": ("logits",)}

    def __init__(
        self, *, purity: bool = True, balance: bool = True, cost: str = "tile", tile_cost: float = 5.0
    ) -> None:
        if cost not in COSTS:
            raise ConfigError(f"OSAL.PLUS.COST: {cost!r} is not one of {', '.join(COSTS)}")
        if not tile_cost >= 0:
            raise ConfigError(f"OSAL.PLUS.TILE_COST is {tile_cost}: give 0 or more")
        self.purity, self.balance, self.cost, self.tile_cost = purity, balance, cost, tile_cost

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        auxiliary = yield Pass(over=context.pool, detector="auxiliary", fields=self.needs["auxiliary"])
        warn_if_blind(auxiliary)
        target = yield Pass(over=context.pool, fields=self.needs["target"])
        have = [sum(tile.get(c, 0) for tile in context.labelled.values()) for c in context.known_classes]
        keys = context.rank(context.pool)  # equals go by this order
        expected = np.stack([self.expected(auxiliary[k], target[k], have) for k in keys])
        detected = np.array([len(auxiliary[k]["boxes"]) for k in keys], dtype=float)
        # At least one nucleus: a tile that seems empty adds nothing, and must cost something.
        cost = np.ones(len(keys)) if self.cost == "tile" else self.tile_cost + detected.clip(min=1)
        chosen, gains = greedy_batch(expected, have if self.balance else None, cost=cost, size=context.size)
        selected = tuple(keys[i] for i in chosen)
        scores = {
            "expected_known": dict(zip(keys, expected.sum(axis=1).tolist())),
            "n_detected": dict(zip(keys, detected.tolist())),
            "gain": dict(zip(selected, gains)),
        }
        reasons = {
            k: f"rank {rank}: expected "
            + ", ".join(f"{count:.1f} {name}" for name, count in zip(context.known_classes, expected[i]))
            for rank, (i, k) in enumerate(zip(chosen, selected), start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons)

    def expected(self, auxiliary: Tables, target: Tables, have: Sequence[float]) -> np.ndarray:
        """Nuclei (K,) that one tile is expected to hold of each known class.

        Args:
            auxiliary: boxes (A, 4), dist_known, dist_unknown (A,). target: boxes (B, 4), logits (B, K + 1).
            have: (K,) nuclei labelled.
        """
        shares = class_shares(auxiliary["boxes"], target, have)
        return (shares[nearer_known(auxiliary)] if self.purity else shares).sum(axis=0)


def class_shares(
    boxes: np.ndarray, target: Tables, have: Sequence[float], *, min_iou: float = 0.5
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
    expected: np.ndarray, have: Sequence[float] | None, *, cost: np.ndarray, size: int
) -> tuple[list[int], list[float]]:
    """Rows taken one by one, each adding most, for its cost, to sum_c log(1 + have_c + expected_c).

    The sum is submodular, so with equal costs the batch reaches 1 - 1/e of what the best one adds.

    Args:
        expected: (T, K) nuclei expected in each tile, T >= size.
        have: (K,) nuclei labelled; None: the nuclei count as they are, of whatever class.
        cost: (T,) of each tile, above 0; what counts is its ratio to the mean.

    Returns:
        Rows in the order of choice, the first of equals, and what each added, divided by its cost relative to the mean.
    """
    sums = None if have is None else 1.0 + np.asarray(have, dtype=np.float64)
    cost = cost / cost.mean()
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(size):
        added = (expected if sums is None else np.log1p(expected / sums)).sum(axis=1) / cost
        added[chosen] = -1.0
        best = int(np.argmax(added.round(5)))  # rounded as in context.rank: float32 noise decides nothing
        chosen.append(best)
        gains.append(float(added[best]))
        if sums is not None:
            sums = sums + expected[best]
    return chosen, gains
