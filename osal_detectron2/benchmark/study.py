"""How large a study has to be, by the cells of a grid with simulated annotators."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import DataError
from ..evaluation.learning_curve import aulc, mean_curve, shared_range
from .power import pairs_needed, spread_at_most
from .results import REFERENCES, CellResult, Value, by_method, by_setting
from .table import compare_paired

Pair = tuple[int | str, int]
MANY = "over 100,000"


@dataclass(frozen=True)
class Study:
    """What is to be seen, and how surely.

    points: a difference of mAP50. reach: an mAP50, or None. power: the chance to see the difference. sitting: minutes
    that an annotator has in a day.
    """

    points: float = 2.0
    reach: float | None = None
    power: float = 0.8
    sitting: float = 40.0


def price_to_reach(cell: CellResult, level: float, x: str = "minutes_annotated") -> float | None:
    """`x` at which the curve of a cell first reaches an mAP50 of `level`, straight between rounds; None if never."""
    before = None
    for row in cell.rounds:
        at, y = row.get(x), row.get("mAP50")
        if at is None or y is None:
            continue
        if y >= level:
            if before is None or before[1] == y:
                return float(at)
            return before[0] + (at - before[0]) * (level - before[1]) / (y - before[1])
        before = at, y
    return None


def describe_study(
    cells: Sequence[CellResult], study: Study, *, reference: str = "random", annotators: str = "perfect"
) -> str:
    """Text: what reaching a level takes, and how many pairs (fold, seed) show a difference.

    In each setting the methods are compared with the method `reference`, and each method with itself in the setting
    `annotators`: what errors of annotators cost. A grid that has neither is a DataError.
    """
    settings = {setting: by_method(inside) for setting, inside in by_setting(cells).items()}
    lines = []
    if study.reach is not None:
        lines += [f"To reach an mAP50 of {study.reach:g}:", ""]
        for setting, methods in settings.items():
            lines += [
                _reach(f"{m}, {setting}", group, study) for m, group in methods.items() if m not in REFERENCES
            ]
    compared = [
        (f"{method} minus {reference}, {setting}", group, methods[reference])
        for setting, methods in settings.items()
        for method, group in methods.items()
        if reference in methods and method != reference and method not in REFERENCES
    ]
    compared += [
        (f"{setting} minus {annotators}, {method}", group, settings[annotators][method])
        for setting, methods in settings.items()
        for method, group in methods.items()
        if setting != annotators and method in settings.get(annotators, {}) and method not in REFERENCES
    ]
    if not compared and study.reach is None:
        raise DataError(
            f"no setting has the method {reference} and another, and none is called {annotators}; name a --reference "
            "or --annotators that the grid has, or give --reach"
        )
    for title, ours, theirs in compared:
        lines += ["", *_differences(title, ours, theirs, study)]
    return "\n".join(lines).strip("\n")


def _reach(title: str, cells: Sequence[CellResult], study: Study) -> str:
    assert study.reach is not None
    minutes = [m for cell in cells if (m := price_to_reach(cell, study.reach)) is not None]
    tiles = [t for cell in cells if (t := price_to_reach(cell, study.reach, "labelled_tiles")) is not None]
    if not minutes or not tiles:
        return f"  {title}: none of {len(cells)} cells does; its best mAP50 is {_best(cells):.1f}"
    middle, most = statistics.median(minutes), max(minutes)
    sittings = math.ceil(most / study.sitting)
    return (
        f"  {title}: {len(minutes)} of {len(cells)} cells do, in {middle:.0f} minutes ({min(minutes):.0f} to "
        f"{most:.0f}) and {statistics.median(tiles):.0f} tiles; {sittings} sitting{'s' * (sittings > 1)} of "
        f"{study.sitting:g} minutes {'is' if sittings == 1 else 'are'} enough for all of these"
    )


def _best(cells: Sequence[CellResult]) -> float:
    return max((value for cell in cells for value in cell.column("mAP50").values()), default=math.nan)


def _differences(
    title: str, ours: Sequence[CellResult], theirs: Sequence[CellResult], study: Study
) -> list[str]:
    """A line for each round and one for the mean along the minutes, with the pairs that each would need."""
    places = {row[0]: row for row in _places([*ours, *theirs])}
    columns: list[tuple[str, Mapping[Pair, Value], Mapping[Pair, Value]]] = []
    for number, (_, tiles, minutes) in sorted(places.items()):
        values = [{c.pair: c.column("mAP50").get(number) for c in group} for group in (ours, theirs)]
        columns.append((f"{tiles:5.0f}   {minutes:7.0f}", *values))
    shared = shared_range([c.rounds for c in (*ours, *theirs)], "minutes_annotated")
    if shared is not None:
        values = [
            {c.pair: aulc(c.rounds, x="minutes_annotated", within=shared) for c in group}
            for group in (ours, theirs)
        ]
        columns.append((f"mean of {shared[0]:3.0f}-{shared[1]:<4.0f}", *values))
    lines = [
        f"{title}: mAP50, and the pairs that show {study.points:g} points with a chance of {100 * study.power:g} %",
        "  tiles   minutes   pairs    mean   spread   95 % interval      pairs needed (by the spread's upper limit)",
    ]
    for place, mine, other in columns:
        paired = compare_paired(mine, other)
        if paired.n < 2 or paired.mean is None or paired.low is None or paired.high is None:
            lines.append(f"  {place} {paired.n:7d}   too few pairs for a spread")
            continue
        spread = statistics.stdev(mine[p] - other[p] for p in mine if _both(mine[p], other.get(p)))  # type: ignore[operator]
        interval = f"[{paired.low:+.2f}, {paired.high:+.2f}]"
        needed = [
            pairs_needed(study.points, s, power=study.power) or MANY
            for s in (spread, spread_at_most(spread, paired.n))
        ]
        lines.append(
            f"  {place} {paired.n:7d} {paired.mean:+7.2f} {spread:8.2f}   {interval:18s} {needed[0]} ({needed[1]})"
        )
    return lines


def _places(cells: Sequence[CellResult]) -> list[tuple[int, float, float]]:
    """(round, mean tiles, mean minutes) of the rounds that all cells have."""
    tiles = mean_curve([c.rounds for c in cells], "round", "labelled_tiles")
    minutes = {x: y for x, y, _ in mean_curve([c.rounds for c in cells], "round", "minutes_annotated")}
    return [(int(x), y, minutes.get(x, math.nan)) for x, y, _ in tiles]


def _both(a: Value, b: Value) -> bool:
    return a is not None and b is not None
