"""What a label costs in annotator seconds, and how far a sum of seconds goes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CostModel:
    """Seconds to open a region, to mark a nucleus, to confirm a draft that is right, to correct one that is wrong.

    Without `confirm` and `correct` there are no drafts, and every nucleus is marked by hand.
    """

    open: float
    mark: float
    confirm: float | None = None
    correct: float | None = None

    @property
    def drafts(self) -> bool:
        return self.confirm is not None

    def seconds(self, nuclei: float, *, right: float = 0.0, wrong: float = 0.0, missed: float = 0.0) -> float:
        """Price of one region. With drafts: `right` and `wrong` drafts, and `missed` nuclei that have none."""
        if not self.drafts:
            return self.open + self.mark * nuclei
        return self.open + self.confirm * right + self.correct * wrong + self.mark * missed


COSTS = {
    "default": CostModel(open=15.0, mark=3.0),
    "boxes": CostModel(open=15.0, mark=7.0),
    "opening": CostModel(open=60.0, mark=3.0),
    "drafts": CostModel(open=15.0, mark=3.0, confirm=1.0, correct=4.0),
}
FRACTIONS = (0.05, 0.10, 0.15, 0.25, 0.375, 0.50)


def prices(full: float) -> list[int]:
    """Seconds at which methods are compared: FRACTIONS of what all costs, to the nearest hundred."""
    return [round(full * fraction / 100) * 100 for fraction in FRACTIONS]


def fill(
    order: Iterable[int], seconds: Callable[[int], float], *, spent: float, price: float
) -> tuple[list[int], float, bool]:
    """Label regions in `order` until `price` is reached.

    The region that crosses the price is taken if that lands nearer to it than leaving it out.

    Returns:
        regions taken, seconds spent with them, and whether the price was reached; False if `order` ended before.
    """
    taken: list[int] = []
    for region in order:
        cost = seconds(region)
        if spent + cost > price:
            if spent + cost - price < price - spent:
                taken.append(region)
                spent += cost
            return taken, spent, True
        taken.append(region)
        spent += cost
    return taken, spent, False
