"""What people answered to a batch: every answer of every annotator, in order, and which one counts.

imported.json is a list of events that only grows:
    {"event": "answer", "tile", "annotator", "state", "boxes", "classes", "file"}, and "seconds" if known
    {"event": "choice", "tile", "annotator"}        whose answer counts for a tile
The latest answer of an annotator is hers; what she said before stays in the list. For a tile, the answer counts that is
    1. of the annotator who was chosen for it,
    2. or of the only one who answered,
    3. or, where all agree (same state, the same nuclei at IoU .5, the same classes), of the first.
Otherwise the tile is disputed, and open until somebody is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.agreement import difference
from ..core.errors import DataError, LedgerError
from ..core.labels import LabelFile, TileLabels
from ..core.store import read_json, write_json
from ..exchange.batch import DISPUTED, PENDING, Request
from .work import work_of

IMPORTED_SCHEMA = "osal-imported/2"
_ONE_ANSWER_SCHEMA = "osal-imported/1"  # {"tiles": {key: answer}}: the latest one alone, whoever gave it


@dataclass(frozen=True)
class Answer:
    """One annotator's word on one tile. file: what it was imported from. seconds: that it took, None if not known."""

    tile: str
    labels: TileLabels
    file: str = ""
    seconds: float | None = None

    def as_json(self) -> dict:
        spent = {} if self.seconds is None else {"seconds": self.seconds}
        return {"event": "answer", "tile": self.tile, "file": self.file, **spent, **self.labels.as_json()}


@dataclass(frozen=True)
class Choice:
    """The decision that an annotator's answer counts for a tile."""

    tile: str
    annotator: str

    def as_json(self) -> dict:
        return {"event": "choice", "tile": self.tile, "annotator": self.annotator}


@dataclass(frozen=True)
class Answers:
    """All events of a batch, in order; `and_then` gives a longer record."""

    events: tuple[Answer | Choice, ...] = ()
    _by_tile: dict[str, dict[str, TileLabels]] = field(init=False, repr=False, compare=False)
    _chosen: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_tile: dict[str, dict[str, TileLabels]] = {}
        chosen: dict[str, str] = {}
        for event in self.events:
            if isinstance(event, Choice):
                chosen[event.tile] = event.annotator
            else:
                by_tile.setdefault(event.tile, {})[event.labels.annotator] = event.labels
        object.__setattr__(self, "_by_tile", by_tile)
        object.__setattr__(self, "_chosen", chosen)

    def and_then(self, events: Iterable[Answer | Choice]) -> Answers:
        """This record, and what came after it. What an annotator says again adds nothing."""
        new = [
            e for e in events if isinstance(e, Choice) or self.of(e.tile).get(e.labels.annotator) != e.labels
        ]
        return Answers((*self.events, *new))

    def of(self, tile: str) -> Mapping[str, TileLabels]:
        """The latest answer of each annotator for a tile, in the order in which they answered first."""
        return self._by_tile.get(tile, {})

    def seconds(self, tile: str) -> float | None:
        """What a tile took all who answered, each her latest answer; None unless the time of each is known."""
        spent = {
            e.labels.annotator: e.seconds for e in self.events if isinstance(e, Answer) and e.tile == tile
        }
        known = [seconds for seconds in spent.values() if seconds is not None]
        return sum(known) if known and len(known) == len(spent) else None

    def agreed(self, tile: str) -> bool:
        """Whether all who answered say the same."""
        answers = list(self.of(tile).values())
        return not any(difference(answers[0], other) for other in answers[1:])

    def disputed(self, tile: str) -> bool:
        """Whether annotators disagree about a tile and none of them is chosen."""
        return self._chosen.get(tile) not in self.of(tile) and not self.agreed(tile)

    def label(self, tile: str) -> TileLabels | None:
        """The answer that counts; None for a tile without one, and for a disputed one."""
        answers = self.of(tile)
        if not answers or self.disputed(tile):
            return None
        return answers.get(self._chosen.get(tile, "")) or next(iter(answers.values()))

    def state(self, tile: str) -> str:
        """The state of the answer that counts, or "pending", or "disputed"."""
        label = self.label(tile)
        return label.state if label else DISPUTED if self.of(tile) else PENDING

    def dispute(self, tile: str) -> str:
        """Who disagrees on a tile, and on what, in words."""
        (name, first), *others = self.of(tile).items()
        found = ((other, difference(first, labels)) for other, labels in others)
        return "; ".join(differ.words(name, other) for other, differ in found if differ)

    def write(self, query: Path, request: Request) -> None:
        """Write imported.json, then labels.json beside `query` if every tile has an answer that counts.

        A labels.json of before is taken away first: killed in between, the run finds none and writes it from here.
        """
        (query.parent / "labels.json").unlink(missing_ok=True)
        content = {"schema": IMPORTED_SCHEMA, "batch": request.batch, "classes": list(request.classes)}
        write_json(query / "imported.json", {**content, "events": [event.as_json() for event in self.events]})
        self.write_labels(query, request)

    def write_labels(self, query: Path, request: Request) -> None:
        """Write labels.json beside `query` if every tile has an answer that counts."""
        labels = {
            key: replace(label, seconds=self.seconds(key), work=work_of(tile.prelabels, label))
            for key, tile in request.tiles.items()
            if (label := self.label(key))
        }
        if len(labels) == len(request.tiles):
            LabelFile(request.classes, labels).write(query.parent / "labels.json")

    @classmethod
    def read(cls, query: Path, batch: str) -> Answers:
        """The record in the folder `query`. Raises LedgerError for answers to another batch; DataError."""
        path = query / "imported.json"
        if not path.is_file():
            return cls()
        content = read_json(path)
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema not in (IMPORTED_SCHEMA, _ONE_ANSWER_SCHEMA) or content.get("batch") != batch:
            raise LedgerError(
                f"{path}: holds answers to another batch than request.json; move it away and import again"
            )
        if schema == _ONE_ANSWER_SCHEMA:
            tiles = LabelFile.parse(content, source=path).tiles
            return cls(tuple(Answer(key, labels) for key, labels in tiles.items()))
        try:
            return cls(tuple(_event(event) for event in content["events"]))
        except (KeyError, TypeError, AttributeError, DataError) as error:
            raise DataError(
                f"{path}: an event is missing or malformed ({error}); restore the file or import the labels again"
            ) from error


def _event(content: Mapping) -> Answer | Choice:
    if content["event"] == "choice":
        return Choice(content["tile"], content["annotator"])
    if content["event"] != "answer":
        raise DataError(f"{content['event']!r} is no event")
    labels = TileLabels(content["state"], content["boxes"], content["classes"], content["annotator"])
    return Answer(content["tile"], labels, content["file"], content.get("seconds"))
