"""What labelling costs: a time for each tile and one for each nucleus that is expected in it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..core.labels import REJECTED, TileLabels


def mean_nuclei(labels: Iterable[TileLabels]) -> float | None:
    """Nuclei in a labelled tile, on the average; rejected tiles do not count. None without any."""
    counts = [len(tile.boxes) for tile in labels if tile.state != REJECTED]
    return sum(counts) / len(counts) if counts else None


def expected_nuclei(
    keys: Sequence[str], *, per_tile: float | None, detected: Mapping[str, float]
) -> dict[str, float | None]:
    """Nuclei to expect in each tile; None where nothing is known.

    per_tile: mean of the labelled tiles, None without any. detected: what a detector finds, by tile (NaN: not asked).
    Where both are known, their mean: a young detector counts far too few or too many, labelled tiles are others.
    """
    if per_tile is None:
        return dict.fromkeys(keys)
    found = {key: float(detected.get(key, math.nan)) for key in keys}
    return {key: (per_tile + n) / 2 if math.isfinite(n) else per_tile for key, n in found.items()}


@dataclass(frozen=True)
class Cost:
    """Of `tiles` tiles with `nuclei` nuclei in all (None: unknown, and in no sum)."""

    tiles: int
    nuclei: float | None
    seconds_per_tile: float
    seconds_per_nucleus: float

    @classmethod
    def of(
        cls, nuclei: Sequence[float | None], *, seconds_per_tile: float, seconds_per_nucleus: float
    ) -> "Cost":
        """The cost of tiles, from the expected nuclei of each."""
        known = [n for n in nuclei if n is not None]
        total = sum(known) if len(known) == len(nuclei) else None
        return cls(len(nuclei), total, seconds_per_tile, seconds_per_nucleus)

    @property
    def hours(self) -> float:
        """Hours of work; of the tiles alone where the nuclei are unknown."""
        return (self.tiles * self.seconds_per_tile + (self.nuclei or 0.0) * self.seconds_per_nucleus) / 3600

    def __str__(self) -> str:
        minutes = math.ceil(self.hours * 60)
        time = f"{self.hours:.1f} hours" if self.hours >= 2 else f"{minutes} minute{'s' * (minutes != 1)}"
        if self.nuclei is not None and self.seconds_per_nucleus:
            return f"{self.tiles} tiles, about {self.nuclei:.0f} nuclei, {time} of annotation"
        if not self.seconds_per_nucleus:
            return f"{self.tiles} tiles, {time} of annotation"
        return (
            f"{self.tiles} tiles, {time} of annotation and {self.seconds_per_nucleus:g} s for each nucleus "
            "(how many there are is known once some are labelled)"
        )
