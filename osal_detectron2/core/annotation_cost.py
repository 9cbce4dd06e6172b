"""What labels cost: the time of people."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AnnotationCost:
    """Seconds that people take to open a tile, and to mark a nucleus (OSAL.ORACLE.SECONDS_PER_TILE, ..._NUCLEUS)."""

    per_tile: float = 15.0
    per_nucleus: float = 3.0

    def minutes(self, *, tiles: int, nuclei: float) -> float:
        """Of `tiles` tiles that hold so many nuclei in all."""
        return (tiles * self.per_tile + nuclei * self.per_nucleus) / 60
