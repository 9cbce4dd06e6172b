"""What labels cost: the time of people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .labels import TileLabels, Work


@dataclass(frozen=True)
class AnnotationCost:
    """Seconds that people take to open a tile, to mark a nucleus, to confirm a draft and to correct one.

    The keys OSAL.ORACLE.SECONDS_PER_TILE, ..._NUCLEUS, ..._CONFIRMATION, ..._CORRECTION; config.py says what the
    defaults rest on.
    """

    per_tile: float = 15.0
    per_nucleus: float = 3.0
    per_confirmation: float = 1.0
    per_correction: float = 4.0

    @classmethod
    def of_settings(cls, oracle: Mapping[str, float]) -> AnnotationCost:
        """From the node OSAL.ORACLE of a config."""
        names = ("TILE", "NUCLEUS", "CONFIRMATION", "CORRECTION")
        return cls(*(float(oracle[f"SECONDS_PER_{name}"]) for name in names))

    def seconds(self, work: Work, *, tiles: int = 1) -> float:
        """What `work` in so many tiles takes."""
        return (
            tiles * self.per_tile
            + work.marked * self.per_nucleus
            + work.confirmed * self.per_confirmation
            + work.corrected * self.per_correction
        )

    def minutes(self, *, tiles: int, nuclei: float) -> float:
        """Of `tiles` tiles that hold so many nuclei in all, each marked by hand."""
        return self.seconds(Work(marked=nuclei), tiles=tiles) / 60

    def of(self, labels: TileLabels) -> float:
        """Seconds that the labels of a tile took: as measured, or by what was done there.

        A tile that was rejected was opened, and nothing more.
        """
        if labels.seconds is not None:
            return labels.seconds
        return self.seconds(labels.work or Work(marked=len(labels.boxes)))

    def of_nucleus(self, labelled: Iterable[TileLabels]) -> float:
        """Seconds that a nucleus is expected to take, after `labelled` tiles.

        By hand `per_nucleus`; where people had drafts before them, what one took with those on the average.
        """
        drafted = [tile for tile in labelled if tile.work is not None and tile.boxes]
        nuclei = sum(len(tile.boxes) for tile in drafted)
        if not nuclei:
            return self.per_nucleus
        return sum(self.seconds(tile.work, tiles=0) for tile in drafted if tile.work) / nuclei
