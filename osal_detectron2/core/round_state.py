"""What there is of a round, read once: the steps of a round decide by it, and ask the disk for nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass

from .labels import REJECTED, TileLabels
from .ledger import Ledger
from .round_files import read_metrics


@dataclass(frozen=True)
class RoundState:
    """Of the round `round_index`, and of all that is committed.

    labels: of every committed tile, in the order of selection. pool: the tiles that no committed round selected,
    sorted. metrics: of this round; None before its evaluation. selected: its query; None where there is none that still
    fits the record. answered: its labels.json is there. committed: all of it is final.
    """

    round_index: int | str
    labels: Mapping[str, TileLabels]
    pool: tuple[str, ...]
    metrics: Mapping | None
    selected: tuple[str, ...] | None
    answered: bool
    committed: bool

    @classmethod
    def read(cls, ledger: Ledger, round_index: int | str) -> "RoundState":
        """Raises LedgerError and DataError for what is damaged."""
        folder, selection = ledger.round_dir(round_index), ledger.selection(round_index)
        return cls(
            round_index=round_index,
            labels=ledger.labels(),
            pool=tuple(ledger.pool_keys()),
            metrics=read_metrics(folder),
            selected=tuple(selection["selected"]) if selection else None,
            answered=(folder / "labels.json").is_file(),
            committed=ledger.is_committed(round_index),
        )

    @property
    def labelled(self) -> list[str]:
        """The tiles to train on, in the order of selection."""
        return [key for key, tile in self.labels.items() if tile.state != REJECTED]
