"""What a label costs in annotator seconds, and the prices at which methods are compared."""

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
