"""How far annotators agree: pure functions of what they answered.

Two boxes are one nucleus at an IoU of .5 or more (`boxes.nuclei_of`). Per class, F1 = 2 matched / (boxes of the one +
boxes of the other), the Dice coefficient of matched boxes of that class. Kappa is Cohen's (1960), of the classes that
two people give the nuclei that both have marked, matched by place alone; of one class: that class against all others.
Of several pairs it is their mean (Light 1971).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from .boxes import nuclei_of
from .labels import REJECTED, TileLabels

NOTHING = "nothing"  # what somebody calls a nucleus that she has not marked
Calls = Counter[tuple[str, str]]  # (class of the one, class of the other) -> nuclei


@dataclass(frozen=True)
class Difference:
    """Nuclei of two answers for one tile.

    same: in both, of one class. other_class: in both, (class, class) -> number. only: in the first or the second alone.
    states: the two states, where they differ.
    """

    same: int
    other_class: Calls
    only: tuple[int, int]
    states: tuple[str, str] | None

    def __bool__(self) -> bool:
        return self.nuclei > 0 or self.states is not None

    @property
    def nuclei(self) -> int:
        """On how many nuclei the two differ."""
        return self.other_class.total() + sum(self.only)

    def words(self, first: str, second: str) -> str:
        """In words, with the names of the annotators."""
        if self.states is not None:
            return f"{first} says {self.states[0]}, {second} says {self.states[1]}"
        parts = [f"{self.same} nuclei the same"]
        parts += [f"{n} {a} or {b}" for (a, b), n in sorted(self.other_class.items())]
        parts += [f"{n} only {name}'s" for n, name in zip(self.only, (first, second)) if n]
        return f"{first} and {second}: " + ", ".join(parts)


def difference(first: TileLabels, second: TileLabels) -> Difference:
    """Compare two answers; pairs of one class come before pairs of two."""
    calls = _calls(first, second, class_first=True)
    return Difference(
        same=sum(n for (a, b), n in calls.items() if a == b),
        other_class=Counter({(a, b): n for (a, b), n in calls.items() if a != b and NOTHING not in (a, b)}),
        only=(
            sum(n for (_, b), n in calls.items() if b == NOTHING),
            sum(n for (a, _), n in calls.items() if a == NOTHING),
        ),
        states=(first.state, second.state) if first.state != second.state else None,
    )


def _calls(first: TileLabels, second: TileLabels, *, class_first: bool) -> Calls:
    """What each of the two calls each nucleus of a tile."""
    people = (first, second)
    nuclei = nuclei_of([p.boxes for p in people], [p.classes for p in people], class_first=class_first)
    called = ((n.get(0), n.get(1)) for n in nuclei)
    return Counter(
        (NOTHING if a is None else first.classes[a], NOTHING if b is None else second.classes[b])
        for a, b in called
    )


def f1(matched: int, first: int, second: int) -> float | None:
    """Dice coefficient of two sets of boxes; None where both are empty."""
    return 2 * matched / (first + second) if first + second else None


def kappa(calls: Mapping[tuple[str, str], int]) -> float | None:
    """Cohen's kappa of the nuclei in `calls`; None where it is undefined: no nucleus, or all of one class for both."""
    total = sum(calls.values())
    rows: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for (a, b), n in calls.items():
        rows[a] += n
        columns[b] += n
    chance = sum(
        rows[name] * columns[name] for name in rows
    )  # of total squared; whole numbers, so 1 is exact
    if not total or chance == total * total:
        return None
    observed = total * sum(n for (a, b), n in calls.items() if a == b)
    return (observed - chance) / (total * total - chance)


@dataclass(frozen=True)
class ClassAgreement:
    """Of one class: boxes of the one, of the other, matched ones of both; kappa of this class against all others."""

    first: int
    second: int
    matched: int
    kappa: float | None

    @property
    def f1(self) -> float | None:
        return f1(self.matched, self.first, self.second)


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators on the tiles that both answered.

    tiles: their number; states: (state, state) of the tiles where these differ. Boxes are compared on tiles that
    neither rejected. calls: what they call each nucleus, matched by place alone; classes: all that one of them used.
    """

    first: str
    second: str
    tiles: int
    states: Calls
    calls: Calls
    classes: Mapping[str, ClassAgreement]

    @property
    def boxes(self) -> tuple[int, int]:
        """Of the first, of the second."""
        one = sum(c.first for c in self.classes.values())
        return one, sum(c.second for c in self.classes.values())

    @property
    def matched(self) -> Calls:
        """`calls` of the nuclei that both marked."""
        return Counter({pair: n for pair, n in self.calls.items() if NOTHING not in pair})

    @property
    def f1_place(self) -> float | None:
        """F1 of the nuclei whatever they are called."""
        return f1(self.matched.total(), *self.boxes)

    @property
    def f1(self) -> float | None:
        """F1 of the nuclei with their classes, all classes together."""
        return f1(sum(c.matched for c in self.classes.values()), *self.boxes)

    @property
    def kappa(self) -> float | None:
        return kappa(self.matched)


def compare(first: str, second: str, tiles: Iterable[tuple[TileLabels, TileLabels]]) -> PairAgreement:
    """The answers (of `first`, of `second`) for each tile that both answered."""
    number, states, calls = 0, Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    ones, others, matched = Counter[str](), Counter[str](), Counter[str]()
    for one, other in tiles:
        number += 1
        if one.state != other.state:
            states[one.state, other.state] += 1
        if REJECTED in (one.state, other.state):
            continue
        ones.update(one.classes)
        others.update(other.classes)
        matched.update({a: n for (a, b), n in _calls(one, other, class_first=True).items() if a == b})
        calls.update(_calls(one, other, class_first=False))
    both = {pair: n for pair, n in calls.items() if NOTHING not in pair}
    classes = {}
    for name in sorted(ones | others):
        against: Calls = Counter()
        for (a, b), n in both.items():
            against[str(a == name), str(b == name)] += n
        classes[name] = ClassAgreement(ones[name], others[name], matched[name], kappa(against))
    return PairAgreement(first, second, number, states, calls, classes)


@dataclass(frozen=True)
class Disputed:
    """A tile on which annotators differ: on how many nuclei, all pairs together, and in words, a sentence a pair."""

    tile: str
    nuclei: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """annotators: {name: tiles answered}. pairs: the least agreement first. tiles: the most to discuss first."""

    annotators: Mapping[str, int]
    pairs: tuple[PairAgreement, ...]
    tiles: tuple[Disputed, ...]

    @property
    def classes(self) -> dict[str, ClassAgreement]:
        """Of each class, all pairs together."""
        names = sorted({name for pair in self.pairs for name in pair.classes})
        return {name: _together([p.classes[name] for p in self.pairs if name in p.classes]) for name in names}

    @property
    def all(self) -> ClassAgreement:
        """Of all classes and pairs."""
        counts = (
            ClassAgreement(*p.boxes, sum(c.matched for c in p.classes.values()), p.kappa) for p in self.pairs
        )
        return _together(list(counts))

    @property
    def mixed_up(self) -> dict[tuple[str, str], int]:
        """(class, class) in alphabetical order -> nuclei that two people call so, the most frequent first."""
        found: Calls = Counter()
        for pair in self.pairs:
            for (a, b), n in pair.matched.items():
                if a != b:
                    found[min(a, b), max(a, b)] += n
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def as_json(self) -> dict:
        """All of it, for JSON: null where a figure is undefined."""
        return {
            "annotators": dict(self.annotators),
            "all": _figures(self.all),
            "classes": {name: _figures(c) for name, c in self.classes.items()},
            "mixed_up": [{"classes": list(pair), "nuclei": n} for pair, n in self.mixed_up.items()],
            "pairs": [
                {
                    "annotators": [p.first, p.second],
                    "tiles": p.tiles,
                    "states": _rows(p.states),
                    "boxes": list(p.boxes),
                    "matched": p.matched.total(),
                    "f1": p.f1,
                    "f1_place": p.f1_place,
                    "kappa": p.kappa,
                    "classes": {name: _figures(c) for name, c in p.classes.items()},
                    "calls": _rows(p.calls),
                }
                for p in self.pairs
            ],
            "tiles": [{"tile": t.tile, "nuclei": t.nuclei, "words": list(t.words)} for t in self.tiles],
        }


def agreement(answers: Mapping[str, Mapping[str, TileLabels]]) -> Agreement | None:
    """Of the answers {tile: {annotator: answer}}; None where no tile has two."""
    counts = Counter(name for given in answers.values() for name in given)
    pairs, tiles = [], []
    for first, second in combinations(sorted(counts), 2):
        shared = [(t[first], t[second]) for t in answers.values() if first in t and second in t]
        if shared:
            pairs.append(compare(first, second, shared))
    for tile, given in answers.items():
        found = [(a, b, difference(given[a], given[b])) for a, b in combinations(sorted(given), 2)]
        if words := tuple(differ.words(a, b) for a, b, differ in found if differ):
            tiles.append(Disputed(tile, sum(differ.nuclei for *_, differ in found), words))
    if not pairs:
        return None
    pairs.sort(key=lambda pair: (1.0 if pair.f1 is None else pair.f1, pair.first, pair.second))
    tiles.sort(key=lambda tile: (-tile.nuclei, tile.tile))
    return Agreement(dict(sorted(counts.items())), tuple(pairs), tuple(tiles))


def _together(of_pairs: list[ClassAgreement]) -> ClassAgreement:
    """Boxes added up, kappa the mean of the pairs that have one."""
    kappas = [c.kappa for c in of_pairs if c.kappa is not None]
    return ClassAgreement(
        first=sum(c.first for c in of_pairs),
        second=sum(c.second for c in of_pairs),
        matched=sum(c.matched for c in of_pairs),
        kappa=fmean(kappas) if kappas else None,
    )


def _figures(of: ClassAgreement) -> dict:
    return {"boxes": [of.first, of.second], "matched": of.matched, "f1": of.f1, "kappa": of.kappa}


def _rows(calls: Calls) -> list[dict]:
    """[word of the first, word of the second] and how often, the most frequent first."""
    ordered = sorted(calls.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"words": list(pair), "number": n} for pair, n in ordered]
