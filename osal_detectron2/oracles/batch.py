"""A batch of tiles that waits for people: what was asked, what has come back, what is still awaited.

Files below rounds/NNN/query/:
    batch.json      for people: COCO with pre-annotations; may be edited in place
    request.json    for us: the exact question, against which every answer is checked
    imported.json   for us: the answers so far
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, LedgerError
from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY, LabelFile, TileLabels
from ..core.ledger import Ledger
from ..core.rounds import next_round
from ..core.store import read_json, write_json

PENDING = "pending"
REQUEST_SCHEMA = "osal-request/1"
IMPORTED_SCHEMA = "osal-imported/1"


@dataclass(frozen=True)
class RequestedTile:
    """Size in pixels and the pre-annotations, (class name, x, y, w, h) each, that people were shown."""

    width: int
    height: int
    prelabels: tuple[tuple[str, float, float, float, float], ...]


@dataclass(frozen=True)
class Request:
    """The question of one round. tiles: by image key, in the suggested order. batch: its identity."""

    batch: str
    round: str | int
    classes: tuple[str, ...]
    tiles: Mapping[str, RequestedTile]
    hours: float

    def write(self, query: Path) -> None:
        """Write request.json. Raises OutputError."""
        tiles = [
            {
                "key": key,
                "width": t.width,
                "height": t.height,
                "prelabels": [list(box) for box in t.prelabels],
            }
            for key, t in self.tiles.items()
        ]
        content = {"schema": REQUEST_SCHEMA, "batch": self.batch, "round": self.round, "hours": self.hours}
        write_json(query / "request.json", {**content, "classes": list(self.classes), "tiles": tiles})

    @classmethod
    def read(cls, query: Path) -> Request | None:
        """The question in `query`, or None where none was put. Raises DataError for a damaged file."""
        path = query / "request.json"
        if not path.is_file():
            return None
        content = read_json(path)
        try:
            if content["schema"] != REQUEST_SCHEMA:
                raise KeyError("schema")
            tiles = {
                t["key"]: RequestedTile(t["width"], t["height"], tuple(tuple(box) for box in t["prelabels"]))
                for t in content["tiles"]
            }
            batch, round, hours = content["batch"], content["round"], content["hours"]
            return cls(batch=batch, round=round, classes=tuple(content["classes"]), tiles=tiles, hours=hours)
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: is not a request of schema {REQUEST_SCHEMA}; restore it") from error


def read_imported(query: Path, batch: str) -> dict[str, TileLabels]:
    """The answers so far, by image key. Raises LedgerError for answers to another batch; DataError."""
    path = query / "imported.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    if (
        not isinstance(content, dict)
        or content.get("schema") != IMPORTED_SCHEMA
        or content.get("batch") != batch
    ):
        raise LedgerError(
            f"{path}: holds answers to another batch than request.json; move it away and import again"
        )
    return dict(LabelFile.parse(content, source=path).tiles)


def write_imported(query: Path, request: Request, answers: Mapping[str, TileLabels]) -> None:
    """Write imported.json, and labels.json beside `query` as soon as every tile has its answer."""
    tiles = {key: answers[key].as_json() for key in request.tiles if key in answers}
    content = {"schema": IMPORTED_SCHEMA, "batch": request.batch, "classes": list(request.classes)}
    write_json(query / "imported.json", {**content, "tiles": tiles})
    if len(tiles) == len(request.tiles):
        LabelFile(request.classes, {key: answers[key] for key in request.tiles}).write(
            query.parent / "labels.json"
        )


@dataclass(frozen=True)
class BatchStatus:
    """Where a batch stands. states: by image key, in the suggested order; "pending" without an answer."""

    round: str | int
    query: Path
    states: Mapping[str, str]
    hours: float

    @property
    def pending_keys(self) -> list[str]:
        """Tiles still awaited, in the suggested order."""
        return [key for key, state in self.states.items() if state == PENDING]

    @property
    def complete(self) -> bool:
        """Whether every tile has an answer."""
        return not self.pending_keys

    @property
    def counts(self) -> dict[str, int]:
        """Tiles in each state."""
        states = list(self.states.values())
        return {state: states.count(state) for state in (LABELLED, REVIEWED_EMPTY, REJECTED, PENDING)}


def status_of(query: Path, request: Request) -> BatchStatus:
    """The status of the batch in the folder `query`."""
    answers = read_imported(query, request.batch)
    states = {key: answers[key].state if key in answers else PENDING for key in request.tiles}
    return BatchStatus(round=request.round, query=query, states=states, hours=request.hours)


def batch_status(run_folder: str | Path) -> BatchStatus | None:
    """The batch that the run waits for, complete or not; None if no question is open. Raises LedgerError."""
    ledger = Ledger.open(run_folder)
    query = ledger.round_dir(next_round(ledger.last_committed)) / "query"
    request = Request.read(query)
    return None if request is None else status_of(query, request)
