"""What a run may spend, in tiles, nuclei or seconds, and what tiles cost in that unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from .annotation_cost import AnnotationCost
from .labels import TileLabels

TILES, NUCLEI, SECONDS = UNITS = ("tiles", "nuclei", "seconds")

# Nuclei of a tile where nobody has counted any: 250 px tiles of CoNSeP at 40x hold 36, NuCLS tiles somewhat fewer.
NUCLEI_PER_TILE = 30.0

Tile = TypeVar("Tile")


def fill(
    order: Iterable[Tile], price_of: Callable[[Tile], float], *, spent: float, price: float
) -> tuple[list[Tile], float, bool]:
    """Take tiles in `order` until `price` is reached (benchmarks/protocol.md, "Filling a budget").

    The tile that crosses the price is taken if that lands nearer to it than leaving it out.

    Returns:
        tiles taken, what is spent with them, and whether the price was reached; False if `order` ended before.
    """
    taken: list[Tile] = []
    for tile in order:
        cost = price_of(tile)
        if spent + cost > price:
            if spent + cost - price < price - spent:
                taken.append(tile)
                spent += cost
            return taken, spent, True
        taken.append(tile)
        spent += cost
    return taken, spent, False


@dataclass(frozen=True)
class Budget:
    """`init` before the first training and `query` in each query, in `unit`.

    cost: what work takes. nuclei_per_tile: expected while nothing is labelled.

    Raises ValueError for another unit.
    """

    unit: str = TILES
    init: float = 0.0
    query: float = 0.0
    cost: AnnotationCost = field(default_factory=AnnotationCost)
    nuclei_per_tile: float = NUCLEI_PER_TILE

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit {self.unit!r} is not one of {', '.join(UNITS)}")

    def prices(self, cost: AnnotationCost, *, of_nucleus: float) -> tuple[float, float]:
        """(price of opening a tile, of a nucleus in it) in the unit; of_nucleus: seconds that one takes."""
        return {TILES: (1.0, 0.0), NUCLEI: (0.0, 1.0), SECONDS: (cost.per_tile, of_nucleus)}[self.unit]

    @property
    def price_of_a_tile(self) -> float:
        """Expected while nothing is labelled."""
        opening, nucleus = self.prices(self.cost, of_nucleus=self.cost.per_nucleus)
        return opening + nucleus * self.nuclei_per_tile

    def true_price(self, tiles: Iterable[TileLabels]) -> float:
        """What labelled tiles have cost, those that were rejected included."""
        if self.unit == SECONDS:
            return sum(map(self.cost.of, tiles))
        return float(sum(1 if self.unit == TILES else len(tile.boxes) for tile in tiles))

    def target(self, query: int, *, spent: float) -> float:
        """What query 0, 1, ... may spend: all that is planned up to and with it, less what has truly been spent.

        So an overspent or underspent query is made good by the next one; nothing or less may be left.
        """
        return self.init + (query + 1) * self.query - spent


def spent_so_far(commits: Iterable[Mapping]) -> float:
    """True cost of all committed rounds of a run with a unit other than tiles."""
    return float(sum(commit["cost"]["true"] for commit in commits if "cost" in commit))


def amount(value: float, unit: str) -> str:
    """A sum of the unit in words: 1,180 seconds (20 minutes)."""
    if unit != SECONDS:
        return f"{value:,.0f} {unit}"
    time = f"{value / 60:.0f} minutes" if abs(value) < 7200 else f"{value / 3600:.1f} hours"
    return f"{value:,.0f} seconds ({time})"


def price_in_words(cost: Mapping) -> str:
    """Of the "cost" of a selection or a commit."""
    unit = cost["unit"]
    text = f"expected {amount(cost['expected'], unit)} of {amount(cost['target'], unit)}"
    return text + (f", true {amount(cost['true'], unit)}" if "true" in cost else "")
