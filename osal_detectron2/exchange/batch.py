"""A batch of tiles that waits for people: what was asked.

Files below rounds/NNN/query/:
    batch.json      for people: COCO with pre-annotations; may be edited in place
    request.json    for us: the exact question, against which every answer is checked
    imported.json   for us: the answers so far (oracles/answers.py)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import DataError
from ..core.store import read_json, write_json

PENDING = "pending"  # nobody has answered
DISPUTED = "disputed"  # annotators disagree, and nobody is chosen
REQUEST_SCHEMA = "osal-request/2"
_COUNTED_SCHEMA = "osal-request/1"  # "hours" of the whole batch; they counted the pre-annotations

# A nucleus of which nothing is said but that it is of no known class.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class RequestedTile:
    """Size in pixels; the pre-annotations that people were shown; the nuclei to expect, None if nobody knows.

    prelabels: (class name, x, y, w, h) each; scores: theirs, none in a request of before. image: path of its file.
    ranking: the scores that it was chosen by, and reason in words. origin: {"parent", "x", "y"} in pixels of the image
    that it was cut from, and "downsample", pixels of that image a pixel of the tile (1); None for one that was not cut.
    """

    width: int
    height: int
    prelabels: tuple[tuple[str, float, float, float, float], ...]
    nuclei: float | None = None
    scores: tuple[float, ...] = ()
    image: str = ""
    ranking: Mapping[str, float | None] = field(default_factory=dict)
    reason: str = ""
    origin: Mapping | None = None

    @property
    def drafts(self) -> list[tuple[str, tuple[float, float, float, float], float | None]]:
        """(class name, (x, y, w, h), score) of each pre-annotation; score None where it was not kept."""
        scores = self.scores or (None,) * len(self.prelabels)
        return [(name, (x, y, w, h), score) for (name, x, y, w, h), score in zip(self.prelabels, scores)]


@dataclass(frozen=True)
class Request:
    """The question of one round. tiles: by image key, in the suggested order. batch: its identity."""

    batch: str
    round_index: str | int
    classes: tuple[str, ...]
    tiles: Mapping[str, RequestedTile]
    seconds_per_tile: float
    seconds_per_nucleus: float

    @property
    def offered(self) -> tuple[str, ...]:
        """The class names that a tool has to know: the answers, and "unknown" where drafts are called so."""
        drafted = any(box[0] == UNKNOWN for tile in self.tiles.values() for box in tile.prelabels)
        return (*self.classes, UNKNOWN) if drafted and UNKNOWN not in self.classes else self.classes

    def write(self, query: Path) -> None:
        """Write request.json. Raises OutputError."""
        tiles = [
            {
                "key": key,
                "width": t.width,
                "height": t.height,
                "prelabels": [list(box) for box in t.prelabels],
                "nuclei": t.nuclei,
                "scores": list(t.scores),
                "image": t.image,
                "ranking": dict(t.ranking),
                "reason": t.reason,
                "origin": None if t.origin is None else dict(t.origin),
            }
            for key, t in self.tiles.items()
        ]
        content = {
            "schema": REQUEST_SCHEMA,
            "batch": self.batch,
            "round": self.round_index,
            "classes": list(self.classes),
            "seconds_per_tile": self.seconds_per_tile,
            "seconds_per_nucleus": self.seconds_per_nucleus,
            "tiles": tiles,
        }
        write_json(query / "request.json", content)

    @classmethod
    def read(cls, query: Path) -> Request | None:
        """The question in `query`, or None where none was put. Raises DataError for a damaged file."""
        path = query / "request.json"
        if not path.is_file():
            return None
        content = read_json(path)
        try:
            if content["schema"] not in (REQUEST_SCHEMA, _COUNTED_SCHEMA):
                raise KeyError("schema")
            tiles = {
                t["key"]: RequestedTile(
                    t["width"],
                    t["height"],
                    tuple(tuple(box) for box in t["prelabels"]),
                    t.get("nuclei"),
                    tuple(t.get("scores", ())),
                    t.get("image", ""),
                    t.get("ranking", {}),
                    t.get("reason", ""),
                    t.get("origin"),
                )
                for t in content["tiles"]
            }
            if content["schema"] == _COUNTED_SCHEMA:
                seconds = (content["hours"] * 3600 / len(tiles), 0.0)
            else:
                seconds = (content["seconds_per_tile"], content["seconds_per_nucleus"])
            return cls(content["batch"], content["round"], tuple(content["classes"]), tiles, *seconds)
        except (KeyError, TypeError, ZeroDivisionError) as error:
            raise DataError(f"{path}: is not a request of schema {REQUEST_SCHEMA}; restore it") from error
