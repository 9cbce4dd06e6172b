"""Annotators who err: overlook nuclei, mark what is none, take one class for another, draw loosely and take their time.

All that they say of a tile is a function of (seed, tile, annotator): the same on another day, in any order of asking
and in any process. Each nucleus has its random numbers whatever the rates are, so that annotators who differ in one
rate alone differ in nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from .annotation_cost import AnnotationCost
from .boxes import pairwise_iou_xywh
from .errors import ConfigError
from .labels import LABELLED, REJECTED, REVIEWED_EMPTY, TileLabels, Work
from .seeding import derive_seed, generator

_LEAST_SIDE = 1.0  # pixels of a box, however loosely drawn
_SAME = 0.5  # IoU from which on a false mark would be one on a nucleus that is marked already


@dataclass(frozen=True)
class Skill:
    """How annotators err: the keys OSAL.ORACLE.IMPERFECT. The defaults are assumptions (measure: docs/studies.md).

    Raises ConfigError for a value that cannot be.
    """

    # Share of the nuclei of median side (square root of width x height) that are overlooked ...
    miss: float = 0.1
    # ... and by how much the odds of that grow with every halving of the side: detection is a logistic function of log
    # size. 1: small nuclei are seen as well as large ones.
    miss_small: float = 2.0
    # Marks where no nucleus is, in a tile on the average (Poisson); class and size are those of a random nucleus.
    false_marks: float = 0.3
    # Share of the marked nuclei that get another class than theirs, each other one as often ...
    confusion: float = 0.05
    # ... but for the classes that are named here: a list of [class, class that it is taken for, share].
    confusions: Sequence[Sequence] = ()
    # Standard deviation of each edge of a box, as a share of the nucleus's width (left, right) or height.
    jitter: float = 0.05
    # Standard deviation of the logarithm of a tile's seconds about OSAL.ORACLE.SECONDS_*, which are the mean ...
    time_spread: float = 0.4
    # ... and of the annotators' paces about each other.
    pace_spread: float = 0.2
    # How many share the work: the seed says whose a tile is.
    annotators: int = 1

    def __post_init__(self) -> None:
        for name in ("miss", "confusion"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{_key(name)} must be a share from 0 to below 1: {getattr(self, name)}")
        for name in ("false_marks", "jitter", "time_spread", "pace_spread"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{_key(name)} must be a number from 0 up: {getattr(self, name)}")
        if not 0 < self.miss_small < math.inf:
            raise ConfigError(f"{_key('miss_small')} must be above 0: {self.miss_small}")
        if not isinstance(self.annotators, int) or self.annotators < 1:
            raise ConfigError(f"{_key('annotators')} must be a number from 1 up: {self.annotators}")

    @classmethod
    def of_settings(cls, node: Mapping) -> "Skill":
        """From the node OSAL.ORACLE.IMPERFECT of a config."""
        return cls(**{field.name: node[field.name.upper()] for field in fields(cls)})


def _key(name: str) -> str:
    return f"OSAL.ORACLE.IMPERFECT.{name.upper()}"


def confusion_matrix(skill: Skill, classes: Sequence[str]) -> np.ndarray:
    """(C, C): the share of each class (row) that gets each class (column).

    Raises ConfigError for a confusion of a class that the data do not have, and for shares that sum up to more than 1.
    """
    number = len(classes)
    if number < 2:
        return np.eye(number)
    matrix = np.full((number, number), skill.confusion / (number - 1))
    given: dict[str, dict[str, float]] = {}
    for entry in skill.confusions:
        if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 3:
            raise ConfigError(f"{_key('confusions')}: {entry!r} is not [class, other class, share]")
        true, answer, share = entry
        if strange := [name for name in (true, answer) if name not in classes]:
            raise ConfigError(
                f"{_key('confusions')}: {strange[0]!r} is no class; there are {', '.join(classes)}"
            )
        given.setdefault(true, {})[answer] = float(share)
    for true, answers in given.items():
        row = matrix[classes.index(true)] = [0.0 if c == true else answers.get(c, 0.0) for c in classes]
        if min(row) < 0 or sum(row) > 1:
            raise ConfigError(
                f"{_key('confusions')}: the shares of {true} must be 0 or more, and 1 at most together"
            )
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
    return matrix


class Annotators:
    """Those of one run.

    Args:
        skill: theirs. classes: all that they may answer. nuclei: (width, height, class) of all nuclei of the data.
        cost: what work takes on the average. seed: of the run.
    """

    def __init__(
        self,
        skill: Skill,
        *,
        classes: Sequence[str],
        nuclei: Sequence[tuple[float, float, str]],
        cost: AnnotationCost,
        seed: int,
    ) -> None:
        self.skill, self.classes, self.nuclei, self.cost, self.seed = skill, list(classes), nuclei, cost, seed
        self.confused = confusion_matrix(skill, self.classes).cumsum(axis=1)
        self.median_side = float(np.median([math.sqrt(w * h) for w, h, _ in nuclei])) if nuclei else 1.0

    def of_tile(self, key: str) -> int:
        """Whose tile it is: 0, 1, ..."""
        return derive_seed("annotator of", self.seed, key) % self.skill.annotators

    def pace(self, annotator: int) -> float:
        """What an annotator takes, relative to the mean of all; the mean of many is 1."""
        return _about_one(generator("pace", self.seed, annotator), self.skill.pace_spread)

    def miss_rate(self, sides: np.ndarray) -> np.ndarray:
        """(N,) the share of nuclei with these sides that are overlooked."""
        if not self.skill.miss:
            return np.zeros(len(sides))
        odds = self.skill.miss / (1 - self.skill.miss)
        odds = odds * self.skill.miss_small ** np.log2(self.median_side / np.maximum(sides, 1e-6))
        return odds / (1 + odds)

    def labels(
        self, key: str, truth: TileLabels, *, width: int, height: int, annotator: int | None = None
    ) -> TileLabels:
        """What `annotator`, by default the one whose tile it is, says of the tile `key`, and the seconds it took."""
        who = self.of_tile(key) if annotator is None else annotator
        rng = generator("annotate", self.seed, key, who)
        pace = self.pace(who) * _about_one(rng, self.skill.time_spread)
        name = f"annotator-{who + 1}"
        if truth.state == REJECTED:
            return replace(truth, annotator=name, seconds=round(self.cost.per_tile * pace, 2))
        boxes = np.array(truth.boxes, dtype=float).reshape(-1, 4)
        number, extent = len(boxes), np.array([width, height, width, height], dtype=float)
        seen, taken_for, shift = rng.random(number), rng.random(number), rng.standard_normal((number, 4))
        rows = np.array([self.classes.index(name) for name in truth.classes], dtype=int)
        answers = (taken_for[:, None] >= self.confused[rows]).sum(axis=1).clip(max=len(self.classes) - 1)
        drawn = _jittered(boxes, shift * self.skill.jitter, extent)
        kept = seen >= self.miss_rate(np.sqrt(boxes[:, 2] * boxes[:, 3]))
        marks, classes = list(drawn[kept]), [self.classes[i] for i in answers[kept]]
        for mark, mark_class in self._false_marks(rng, extent):
            if not (pairwise_iou_xywh([mark], marks or np.zeros((0, 4))) >= _SAME).any():
                marks.append(mark)
                classes.append(mark_class)
        seconds = round(self.cost.seconds(Work(marked=len(marks))) * pace, 2)
        return TileLabels(LABELLED if marks else REVIEWED_EMPTY, marks, classes, name, seconds=seconds)

    def _false_marks(self, rng: np.random.Generator, extent: np.ndarray) -> list[tuple[np.ndarray, str]]:
        number = int(rng.poisson(self.skill.false_marks)) if self.nuclei else 0
        found = []
        for _ in range(number):
            w, h, name = self.nuclei[int(rng.integers(len(self.nuclei)))]
            side = np.minimum([w, h], extent[:2])
            found.append((np.concatenate([rng.random(2) * (extent[:2] - side), side]), name))
        return found


def _about_one(rng: np.random.Generator, spread: float) -> float:
    """A log-normal number of mean 1; it takes one random number, whatever the spread."""
    return math.exp(spread * float(rng.standard_normal()) - spread**2 / 2)


def _jittered(boxes: np.ndarray, shift: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(N, 4) xywh boxes with their edges (left, top, right, bottom) moved by `shift` times width or height."""
    if not shift.any():
        return boxes
    edges = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    moved = (edges + shift * np.tile(boxes[:, 2:], 2)).clip(0, extent)
    low, high = np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])
    low = np.minimum(low, np.maximum(extent[:2] - _LEAST_SIDE, 0))
    return np.concatenate([low, np.maximum(high - low, _LEAST_SIDE)], axis=1)
