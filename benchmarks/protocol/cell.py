"""One cell of the screening: an arm with a seed, from the first price to the last."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from osal_detectron2.core.budget import fill

from .detector import Recipe, State, posteriors, train
from .order import shuffled
from .pool import Scene
from .precision import evaluate
from .price import COSTS, CostModel, prices
from .rules import ARMS

SCHEMA = "osal-screening/1"
TILES_PER_IMAGE = 16  # prices are fractions of what all 250 px tiles of the pool cost, whatever the regions


@dataclass(frozen=True)
class CellName:
    """What identifies a cell; `str` is the name of its file."""

    setting: str
    side: int
    cost: str
    policy: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.setting}-{self.side}-{self.cost}-{self.policy}-{self.arm}-{self.seed}"


def price_list(pool: Scene, cost: CostModel) -> list[int]:
    """Seconds of the comparison. Of drafts: those without drafts, for what all would cost depends on the detector."""
    tiles = TILES_PER_IMAGE * (int(pool.region_image.max()) + 1)
    return prices(cost.open * tiles + cost.mark * len(pool.nucleus_class))


def run_cell(
    name: CellName,
    pool: Scene,
    test: Scene,
    *,
    recipe: Recipe,
    first: dict | None = None,
    arms: dict[str, Callable] = ARMS,
) -> dict:
    """
    Args:
        first: what an earlier cell with the same setting, side, cost, policy and seed left in it; the weights after the
            initial draw are kept there, since all arms share them.

    Returns:
        The content of the cell's file. points: one for each price: seconds spent; regions, nuclei, known nuclei and
        nuclei of each known class labelled; mAP50, AP50 of each known class, A-OSE of the test images; queried: names
        of the regions that were labelled for this point.
    """
    began = time.process_time()
    cost, first = COSTS[name.cost], {} if first is None else first
    steps = price_list(pool, cost)
    by_hand = [cost.open + cost.mark * int(n) for n in pool.counts.sum(axis=1)]
    draw = State(pool, (), name.seed, 0, cost, steps[0], 0.0, None, recipe)
    labelled, spent, _ = fill(
        shuffled(draw, range(len(pool.keys))), by_hand.__getitem__, spent=0.0, price=steps[0]
    )
    if "w" not in first:
        first["w"] = train(pool, labelled, policy=name.policy, recipe=recipe)
        first["point"] = _point(pool, test, labelled, labelled, first["w"], price=steps[0], seconds=spent)
    w, points = first["w"], [first["point"]]
    for step, price in enumerate(steps[1:], start=1):
        queried, reached = [], False
        while not reached and len(labelled) < len(pool.keys):
            state = State(pool, tuple(labelled), name.seed, step, cost, price, spent, w, recipe)
            taken, spent, reached = fill(arms[name.arm](state), state.seconds, spent=spent, price=price)
            labelled, queried = labelled + taken, queried + taken
        w = train(pool, labelled, policy=name.policy, recipe=recipe, start=w)
        points.append(_point(pool, test, labelled, queried, w, price=price, seconds=spent))
    return {
        "schema": SCHEMA,
        **name.__dict__,
        "known_classes": list(pool.known),
        "cpu_seconds": round(time.process_time() - began, 2),
        "points": points,
    }


def full_annotation(pool: Scene, test: Scene, cost: CostModel, *, policy: str, recipe: Recipe) -> dict:
    """The point of a cell with every region labelled."""
    everything = list(range(len(pool.keys)))
    seconds = float(sum(cost.open + cost.mark * int(n) for n in pool.counts.sum(axis=1)))
    w = train(pool, everything, policy=policy, recipe=recipe)
    return _point(pool, test, everything, everything, w, price=round(seconds), seconds=seconds)


def _point(pool: Scene, test: Scene, labelled, queried, w: np.ndarray, *, price: int, seconds: float) -> dict:
    known = test.num_known
    found = evaluate(posteriors(test.x, w, known)[:, :known], test.pairs, test.nucleus_class, known=known)
    counts = pool.counts[labelled].sum(axis=0)
    return {
        "price": price,
        "seconds": seconds,
        "regions": len(labelled),
        "nuclei": int(counts.sum()),
        "known": int(counts[:-1].sum()),
        "of_class": dict(zip(pool.known, counts[:-1].tolist())),
        "mAP50": round(found["mAP50"], 4),
        "ap50": {c: round(v, 4) for c, v in zip(pool.known, found["ap50"])},
        "aose": found["aose"],
        "queried": [pool.keys[i] for i in queried],
    }
