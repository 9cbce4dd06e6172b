"""How annotators err, from tiles of which the truth is known or that two of them labelled.

Two annotators of like skill who err independently see a nucleus both, one, or none of them: of the marks of one, the
other's misses are the share that only the first has (Lincoln and Petersen's capture and recapture). What is no
nucleus at all is only told apart where the truth is known.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..core.annotation_cost import AnnotationCost
from ..core.annotator import Skill
from ..core.boxes import pairwise_iou_xywh
from ..core.cost_fit import TimedTile
from ..core.errors import DataError
from ..core.labels import REJECTED, TileLabels

MATCH_IOU = 0.3  # below the .5 of other matching: loosely drawn boxes are the question here
RATES = ("miss", "miss_small", "false_marks", "confusion", "jitter")


@dataclass(frozen=True)
class SkillFit:
    """skill: the estimate. low, high: ends of the 95 % bootstrap interval over tiles, of RATES. tiles: labelled pairs;
    nuclei: matched. against_truth: else of two annotators, and false marks count as misses of the other.
    """

    skill: Skill
    low: Skill
    high: Skill
    tiles: int
    nuclei: int
    against_truth: bool


@dataclass(frozen=True)
class _Compared:
    """Of one tile: sides (M,) of the marks that are asked for, whether each was overlooked (M,), other marks, matched
    nuclei and those of another class, and the moves (K,) of matched edges, as shares of the sides."""

    sides: np.ndarray
    missed: np.ndarray
    extra: int
    matched: int
    other_class: int
    moves: np.ndarray


def fit_skill(
    pairs: Iterable[tuple[TileLabels, TileLabels]],
    *,
    against_truth: bool,
    num_classes: int,
    samples: int = 200,
    seed: int = 0,
) -> SkillFit:
    """The `Skill` behind pairs (truth, answer), or (answer, answer of another) of one tile each; times are not in it.

    Raises DataError where no nucleus is in two answers for the same tile.
    """
    kept = [(a, b) for a, b in pairs if REJECTED not in (a.state, b.state)]
    compared = [_compare(a, b) for a, b in kept]
    back = [] if against_truth else [_compare(b, a) for a, b in kept]
    if not sum(tile.matched for tile in compared):
        raise DataError(
            "no nucleus was marked twice, so nothing can be compared; give answers to the same tiles"
        )

    def estimate(rows: np.ndarray) -> Skill:
        chosen = [compared[i] for i in rows] + [back[i] for i in rows if back]
        return _estimate(chosen, against_truth=against_truth, num_classes=num_classes)

    rng, number = np.random.default_rng(seed), len(compared)
    draws = [rows for rows in (rng.integers(0, number, number) for _ in range(samples))
             if any(compared[i].matched for i in rows)]  # fmt: skip
    drawn = np.array([[getattr(skill, name) for name in RATES] for skill in map(estimate, draws)])
    low, high = (_skill(*map(float, ends)) for ends in np.percentile(drawn, [2.5, 97.5], axis=0))
    matched = sum(tile.matched for tile in compared)
    return SkillFit(estimate(np.arange(number)), low, high, number, matched, against_truth)


def fit_times(timed: Iterable[TimedTile], cost: AnnotationCost) -> tuple[float | None, float | None]:
    """(time_spread, pace_spread) of `Skill` about the prices `cost`; None where too few tiles or annotators are."""
    logs: dict[str, list[float]] = {}
    for tile in timed:
        logs.setdefault(tile.annotator, []).append(
            math.log(tile.seconds / max(cost.seconds(tile.work), 1e-9))
        )
    groups = [np.array(log) for log in logs.values() if len(log) > 1]
    if not groups:
        return None, None
    left = sum(len(log) - 1 for log in groups)
    inside = sum(float(((log - log.mean()) ** 2).sum()) for log in groups) / left
    if len(groups) < 2:
        return math.sqrt(inside), None
    noise = float(np.mean([inside / len(log) for log in groups]))
    between = float(np.var([log.mean() for log in groups], ddof=1)) - noise
    return math.sqrt(inside), math.sqrt(max(between, 0.0))


def rounded(skill: Skill) -> dict[str, float]:
    """RATES of a skill to three digits behind the point."""
    return {f.name: round(float(getattr(skill, f.name)), 3) for f in fields(skill) if f.name in RATES}


def _skill(miss: float, miss_small: float, false_marks: float, confusion: float, jitter: float) -> Skill:
    return Skill(miss, miss_small, false_marks, confusion, jitter=jitter)


def _compare(asked: TileLabels, answer: TileLabels) -> _Compared:
    """Match two answers, boxes of any class, the best overlap first."""
    first, second = (np.array(t.boxes, dtype=float).reshape(-1, 4) for t in (asked, answer))
    iou = pairwise_iou_xywh(first, second)
    pairs: list[tuple[int, int]] = []
    for a, b in sorted(zip(*(iou >= MATCH_IOU).nonzero()), key=lambda p: (-iou[p], p)):
        if all(a != c and b != d for c, d in pairs):
            pairs.append((int(a), int(b)))
    rows, columns = (np.array([p[i] for p in pairs], dtype=int) for i in (0, 1))
    missed = np.ones(len(first), dtype=bool)
    missed[rows] = False
    one, two = first[rows], second[columns]
    ends = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (one, two)]
    moves = (ends[1] - ends[0]) / np.tile(one[:, 2:], 2)
    other = sum(asked.classes[a] != answer.classes[b] for a, b in pairs)
    sides = np.sqrt(first[:, 2] * first[:, 3])
    return _Compared(sides, missed, len(second) - len(pairs), len(pairs), other, moves.ravel())


def _estimate(tiles: Sequence[_Compared], *, against_truth: bool, num_classes: int) -> Skill:
    sides = np.concatenate([tile.sides for tile in tiles])
    missed = np.concatenate([tile.missed for tile in tiles])
    matched = sum(tile.matched for tile in tiles)
    miss, small = _logistic(np.log2(np.median(sides) / sides), missed)
    different = sum(tile.other_class for tile in tiles) / matched
    moves = np.concatenate([tile.moves for tile in tiles])
    jitter = 1.4826 * float(np.median(np.abs(moves - np.median(moves))))  # robust against a wrong match
    if against_truth:
        extra = sum(tile.extra for tile in tiles) / len(tiles)
        return _skill(miss, small, extra, min(different, 0.999), jitter)
    return _skill(miss, small, 0.0, _confusion(different, num_classes), jitter / math.sqrt(2))


def _confusion(different: float, num_classes: int) -> float:
    """c of two annotators with the same c who disagree so often: 1 - different = (1 - c)^2 + c^2 / (C - 1)."""
    if num_classes < 2:
        return 0.0
    a = 1 + 1 / (num_classes - 1)
    return min((1 - math.sqrt(max(1 - a * different, 0.0))) / a, 0.999)


def _logistic(halvings: np.ndarray, missed: np.ndarray) -> tuple[float, float]:
    """(miss at 0 halvings, factor of the odds a halving), by maximum likelihood in Newton's steps."""
    x = np.stack([np.ones(len(halvings)), halvings], axis=1)
    share = (missed.sum() + 0.5) / (len(missed) + 1)
    if missed.all() or not missed.any():
        return (0.0 if not missed.any() else min(float(share), 0.999)), 1.0
    weights = np.array([math.log(share / (1 - share)), 0.0])
    ridge = np.diag([0.0, 1.0])  # the slope of few misses stays moderate
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ weights)))
        step = np.linalg.solve(
            x.T @ (x * (p * (1 - p))[:, None]) + ridge, x.T @ (missed - p) - ridge @ weights
        )
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return float(1 / (1 + math.exp(-weights[0]))), float(math.exp(np.clip(weights[1], -10, 10)))
