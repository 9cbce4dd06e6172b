"""The labels of test tiles that people give while the rounds go on: from a record of a campaign, not from the JSON."""

from collections.abc import Sequence
from pathlib import Path

from ..core.ledger import Ledger
from ..core.rounds import INIT
from ..core.store import sha256_file
from .labelled import labelled_records


def recorded_test(
    records: Sequence[dict], folder: str | Path, *, known_classes: Sequence[str]
) -> tuple[list[dict], str | None]:
    """(the test records with the labels that are committed in the record `folder`, SHA-256 of that commit).

    Rejected tiles are out. Before the commit, and where no tile holds a known nucleus, there is nothing to measure on:
    the records come without annotations, and None. Raises LedgerError where `folder` is no record or was changed.
    """
    ledger = Ledger.open(folder)
    labels = ledger.labels()
    if not any(name in known_classes for tile in labels.values() for name in tile.classes):
        return [{**record, "annotations": []} for record in records], None
    found = {record["image_key"]: record for record in records}
    chosen = {key: tile for key, tile in labels.items() if key in found}
    digest = sha256_file(ledger.round_dir(INIT) / "commit.json")
    return labelled_records(found, chosen, known_classes=known_classes), digest
