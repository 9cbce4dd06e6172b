"""Paired differences to a control, and what may be said of them (benchmarks/protocol.md)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

EFFECT = 1.0  # points of mAP50 at equal seconds


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences and its 95 % interval; n pairs."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """See the protocol; no verdict from fewer than eight pairs."""
        if self.n < 8:
            return "too few seeds"
        if self.low > 0 and self.mean >= EFFECT:
            return "better"
        if self.high < 0 and self.mean <= -EFFECT:
            return "worse"
        return "level" if -EFFECT <= self.low and self.high <= EFFECT else "undecided"


def difference(values: Sequence[float], control: Sequence[float]) -> Difference:
    """Of two sequences of the same seeds. The interval is Student's; infinite for a single pair."""
    d = np.asarray(values, dtype=float) - np.asarray(control, dtype=float)
    mean = float(d.mean())
    if len(d) < 2:
        return Difference(mean, -np.inf, np.inf, len(d))
    half = float(student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
    return Difference(mean, mean - half, mean + half, len(d))


def after_first(cell: Mapping) -> float:
    """The primary number of a cell: mean mAP50 over the prices after the first."""
    return float(np.mean([p["mAP50"] for p in cell["points"][1:]]))


def seconds_to_reach(cell: Mapping, level: float) -> float:
    """Seconds at which the curve first reaches `level`, straight between the points; inf if it does not."""
    points = cell["points"]
    if points[0]["mAP50"] >= level:
        return float(points[0]["seconds"])
    for a, b in zip(points, points[1:]):
        if b["mAP50"] >= level:
            part = (level - a["mAP50"]) / (b["mAP50"] - a["mAP50"])
            return float(a["seconds"] + part * (b["seconds"] - a["seconds"]))
    return float("inf")


def random_of_drop(key: tuple) -> tuple:
    """The control of the protocol: Random with unknown nuclei as background, same setting, regions and cost."""
    return (*key[:3], "drop", "random")


def random_of_policy(key: tuple) -> tuple:
    """Random that makes of unknown nuclei what the arm makes of them."""
    return (*key[:4], "random")


def random_tiles(key: tuple) -> tuple:
    """Random among tiles of 250 px, for regions of another size."""
    return (key[0], 250, key[2], "drop", "random")


def compare(
    cells: Iterable[Mapping], *, control: Callable[[tuple], tuple] = random_of_drop
) -> dict[tuple, dict]:
    """
    Args:
        cells: contents of files of cells.
        control: from (setting, side, cost, policy, arm) to those of what it is compared with.

    Returns:
        (setting, side, cost, policy, arm) -> {"all": Difference over the prices after the first, "prices": one for each
        price, "seeds": those that both have}.
    """
    by_seed: dict[tuple, dict[int, Mapping]] = {}
    for cell in cells:
        key = tuple(cell[k] for k in ("setting", "side", "cost", "policy", "arm"))
        by_seed.setdefault(key, {})[cell["seed"]] = cell
    compared = {}
    for key, mine in sorted(by_seed.items()):
        other = by_seed.get(control(key), {})
        seeds = sorted(set(mine) & set(other))
        if not seeds:
            continue
        a, b = [mine[s] for s in seeds], [other[s] for s in seeds]
        compared[key] = {
            "seeds": seeds,
            "all": difference([after_first(c) for c in a], [after_first(c) for c in b]),
            "prices": [
                difference([c["points"][i]["mAP50"] for c in a], [c["points"][i]["mAP50"] for c in b])
                for i in range(len(a[0]["points"]))
            ],
        }
    return compared


def share_of_seconds(
    cells: Iterable[Mapping], level: float, *, control: Callable[[tuple], tuple] = random_of_drop
) -> dict[tuple, Difference]:
    """Seconds to `level`, as a share of those of the control with the same seed: 0.8 is a fifth less.

    Returns:
        key as in `compare` -> mean and interval of the share. Seeds in which either does not reach the level are left
        out, and so is an arm with fewer than two that are left.
    """
    reached: dict[tuple, dict[int, float]] = {}
    for cell in cells:
        key = tuple(cell[k] for k in ("setting", "side", "cost", "policy", "arm"))
        seconds = seconds_to_reach(cell, level)
        if np.isfinite(seconds):
            reached.setdefault(key, {})[cell["seed"]] = seconds
    shares = {}
    for key, mine in sorted(reached.items()):
        other = reached.get(control(key), {})
        share = [mine[seed] / other[seed] for seed in sorted(set(mine) & set(other))]
        if len(share) > 1:
            shares[key] = difference(share, [0.0] * len(share))
    return shares
