"""Tiles that are asked for before any training: each set is a run folder with nothing but its initial round.

So all that knows a run's batch (import, export, status, prefer, verify) knows these, and their labels stand in the same
chain of hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..core.labels import LabelFile, TileLabels
from ..core.ledger import Ledger
from ..core.round_files import write_selection
from ..core.rounds import INIT
from ..core.run_config import CAMPAIGN
from ..core.store import sha256_file
from ..oracles.answers import Answers
from ..oracles.exchange import open_request
from ..oracles.export import export_batch
from ..oracles.people import unknown_class
from .folder import FIRST_RECORD, POOL, TEST, Campaign


def begin_record(
    folder: Path,
    *,
    campaign: str,
    coco_file: Path,
    tiles: Path,
    images: Mapping[str, Mapping],
    known: Sequence[str],
    classes: Sequence[str],
    selected: Sequence[str],
    reasons: Mapping[str, str],
    seed: int,
    seconds_per_tile: float,
    seconds_per_nucleus: float,
    given: Mapping[str, TileLabels] | None = None,
) -> None:
    """Ask for `selected`, in this order; or commit the labels `given` for them at once.

    images: entries of COCO by image key, of all tiles that might have been asked for. campaign: its identity.
    Raises LedgerError where there is a record already; OutputError.
    """
    ledger = Ledger.create(
        folder,
        strategy="initial",
        seed=seed,
        known_classes=known,
        pool=list(images),
        plan=[len(selected)],
        config={"campaign": campaign},
        dataset_sha256=sha256_file(coco_file),
        versions={"osal_detectron2": __version__},
        front=CAMPAIGN,
    )
    write_selection(
        ledger.round_dir(INIT),
        round_index=INIT,
        strategy="initial",
        budget=len(selected),
        selected=selected,
        candidates=len(images),
        reasons=reasons,
    )
    if given is not None:
        ledger.commit(INIT, selected=selected, labels=given, classes=answers_of(known, classes))
        return
    export_batch(
        folder,
        round_index=INIT,
        keys=selected,
        images={key: {**images[key], "file_name": str((tiles / key).absolute())} for key in selected},
        classes=answers_of(known, classes),
        predictions={},
        nuclei=dict.fromkeys(selected),
        tile_scores={},
        reasons=reasons,
        seconds_per_nucleus=seconds_per_nucleus,
        seconds_per_tile=seconds_per_tile,
    )


def answers_of(known: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The class names that people may give: those of the campaign, and "unknown" where it has a meaning."""
    return list(dict.fromkeys([*known, *classes, unknown_class(known, classes)]))


def commit_if_complete(campaign: Campaign, name: str) -> bool:
    """Commit the record "first" or "test" if all its tiles are labelled; whether that happened now. Hold its lock."""
    ledger = campaign.record(name)
    if ledger.is_committed(INIT):
        return False
    _, query, request = open_request(ledger.folder)
    path = query.parent / "labels.json"
    if not path.is_file():  # an import was killed before it wrote them
        Answers.read(query, request.batch).write_labels(query, request)
    if not path.is_file():
        return False
    labels = LabelFile.read(path)
    ledger.commit(INIT, selected=list(request.tiles), labels=labels.tiles, classes=labels.classes)
    return True


def coco_name(record: str) -> str:
    """The file of the tiles that a record asks for."""
    return POOL if record == FIRST_RECORD else TEST


def has_nuclei(labels: Mapping[str, TileLabels], known: Sequence[str]) -> bool:
    """Whether any of the tiles holds a nucleus of a known class."""
    return any(name in known for tile in labels.values() for name in tile.classes)
