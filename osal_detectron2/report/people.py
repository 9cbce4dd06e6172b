"""Who labelled, how long it took, and what that says of the price of a tile and a nucleus."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from statistics import median

from ..core.annotation_cost import AnnotationCost
from ..core.cost_fit import MIN_TILES, PRICES, CostFit, TimedTile, fit_cost, fit_each
from ..core.labels import TileLabels
from .html import Child, table, tag


def time_of_annotators(
    labels: Iterable[TileLabels], timed: Sequence[TimedTile], costs: AnnotationCost
) -> Child:
    """A line for each annotator: tiles, minutes, seconds a tile; and the prices that the times say, with intervals.

    labels: what counts in the record. timed: every answer whose time a tool has measured.
    """
    tiles: dict[str, list[TileLabels]] = {}
    for tile in labels:
        tiles.setdefault(tile.annotator, []).append(tile)
    seconds: dict[str, list[float]] = {}
    for one in timed:
        seconds.setdefault(one.annotator, []).append(one.seconds)
    rows = []
    for name in sorted({*tiles, *seconds}):
        mine, measured = tiles.get(name, []), seconds.get(name, [])
        rows.append(
            [
                name,
                len(mine),
                sum(len(tile.boxes) for tile in mine),
                len(measured),
                f"{sum(measured) / 60:.1f}" if measured else "-",
                f"{median(measured):.0f}" if measured else "-",
                f"{sum(map(costs.of, mine)) / 60:.1f}",
            ]
        )
    titles = (
        "annotator",
        "tiles that count",
        "nuclei in them",
        "tiles with a measured time",
        "minutes measured",
        "median seconds a tile",
        "minutes of what counts, measured or estimated",
    )
    parts: list[Child] = [
        tag("p", "There are no labels yet.") if not rows else table("Time by annotator", titles, rows)
    ]
    if timed:
        parts.append(_prices(fit_each(timed), fit_cost(timed)))
    elif rows:
        parts.append(
            tag(
                "p",
                "No tool measured a time: minutes are an estimate by "
                f"{costs.per_tile:g} s a tile and {costs.per_nucleus:g} s a nucleus.",
            )
        )
    return parts


def _prices(each: Mapping[str, CostFit | None], together: CostFit | None) -> Child:
    fits = {name: fit for name, fit in (*each.items(), ("all together", together)) if fit is not None}
    if not fits:
        return tag(
            "p", f"What a tile and a nucleus take is fitted once an annotator has {MIN_TILES} timed tiles."
        )
    rows = [
        [name, *(_interval(fit, index) for index in range(len(PRICES))), fit.tiles]
        for name, fit in fits.items()
    ]
    titles = ("annotator", *(f"{price.replace('_', ' ')}, s" for price in PRICES), "timed tiles")
    return table("What labelling takes by the measured times, with 95 % intervals", titles, rows)


def _interval(fit: CostFit, index: int) -> str:
    value, low, high = (astuple(prices)[index] for prices in (fit.cost, fit.low, fit.high))
    return (
        f"{value:.1f} ({low:.1f} to {high:.1f})" if PRICES[index] in fit.fitted else f"{value:.1f} (assumed)"
    )
