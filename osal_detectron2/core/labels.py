"""What an oracle answers: the labels of tiles, and the file labels.json that keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import DataError, LedgerError
from .store import read_json, write_json

SCHEMA = "osal-labels/1"

LABELLED = "labelled"  # nuclei were found and classified
REVIEWED_EMPTY = "reviewed_empty"  # somebody looked, and there is no nucleus: still a training tile
REJECTED = "rejected"  # not fit for use (out of focus, folded): leaves the pool, is not trained on
STATES = (LABELLED, REVIEWED_EMPTY, REJECTED)


@dataclass(frozen=True)
class Work:
    """What people do in a tile that they opened: nuclei marked by hand, drafts that were right, drafts that were not.

    A draft is right where it has the class of the nucleus that is there; a wrong one is deleted or gets another class.
    """

    marked: float = 0.0
    confirmed: float = 0.0
    corrected: float = 0.0


@dataclass(frozen=True)
class TileLabels:
    """The answer for one tile.

    state: "labelled" (one box or more), "reviewed_empty" or "rejected" (no box).
    boxes: (x, y, w, h) in pixels, floats, w and h above 0. classes: one class name a box.
    seconds: that people took for the tile, all of them together; None where nobody measured. work: what they did, where
    drafts lay before them. Neither is part of what is said of the tile, so answers that differ in them are equal.
    Raises DataError for anything else.
    """

    state: str
    boxes: Sequence[Sequence[float]] = field(default=())
    classes: Sequence[str] = field(default=())
    annotator: str = "simulated"
    seconds: float | None = field(default=None, compare=False)
    work: Work | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise DataError(f"state {self.state!r} is none of {', '.join(STATES)}")
        boxes = tuple(_box(box, index) for index, box in enumerate(self.boxes))
        classes = tuple(self.classes)
        if len(boxes) != len(classes):
            raise DataError(f"{len(boxes)} boxes, but {len(classes)} classes: give one class a box")
        if bool(boxes) != (self.state == LABELLED):
            raise DataError(f"state {self.state!r} does not go with {len(boxes)} boxes")
        if not all(isinstance(name, str) for name in classes) or not isinstance(self.annotator, str):
            raise DataError("class names and the annotator must be text")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "classes", classes)

    def as_json(self) -> dict:
        """The entry of labels.json."""
        spent = {} if self.seconds is None else {"seconds": self.seconds}
        done = {} if self.work is None else {"work": asdict(self.work)}
        return {
            "state": self.state,
            "boxes": [list(box) for box in self.boxes],
            "classes": list(self.classes),
            "annotator": self.annotator,
            **spent,
            **done,
        }


def _box(box: Sequence[float], index: int) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise DataError(f"box {index} is {box!r}, not four numbers x, y, width, height") from error
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise DataError(f"box {index} is {[x, y, w, h]}: all must be finite, width and height above 0")
    return x, y, w, h


@dataclass(frozen=True)
class LabelFile:
    """The content of labels.json: the class names that are allowed, and the tiles by image key."""

    classes: Sequence[str]
    tiles: Mapping[str, TileLabels]

    def __post_init__(self) -> None:
        allowed = set(self.classes)
        for key, tile in self.tiles.items():
            if strange := sorted(set(tile.classes) - allowed):
                raise DataError(
                    f"tile {key}: class {strange[0]!r} is not among {', '.join(self.classes)}; correct it"
                )

    @classmethod
    def read(cls, path: str | Path) -> LabelFile:
        """Read and check labels.json. Raises DataError naming the file and the tile."""
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise DataError(f"{path}: is not a label file of schema {SCHEMA}; restore it or delete it")
        return cls.parse(content, source=path)

    @classmethod
    def parse(cls, content: Mapping, *, source: str | Path) -> LabelFile:
        """From parsed JSON with "classes" and "tiles"; `source` is the file named in a DataError."""
        key = None
        try:
            tiles = {}
            for key, entry in content["tiles"].items():
                work = entry.get("work")
                tiles[key] = TileLabels(
                    entry["state"], entry["boxes"], entry["classes"], entry["annotator"],
                    seconds=entry.get("seconds"), work=None if work is None else Work(**work),
                )  # fmt: skip
            key = None
            return cls(classes=tuple(content["classes"]), tiles=tiles)
        except (KeyError, TypeError, AttributeError, DataError) as error:
            reason = str(error) if isinstance(error, DataError) else f"missing or malformed: {error}"
            place = f"{source}: tile {key}" if key is not None else str(source)
            raise DataError(f"{place}: {reason}; restore the file or import the labels again") from error

    def write(self, path: str | Path) -> None:
        """Write labels.json atomically. Raises OutputError."""
        tiles = {key: tile.as_json() for key, tile in self.tiles.items()}
        write_json(path, {"schema": SCHEMA, "classes": list(self.classes), "tiles": tiles})

    def write_once(self, path: str | Path) -> None:
        """Write labels.json, unless an import or a killed process has left it there already.

        An answer to another selection is replaced. Raises LedgerError where the file has other labels for these tiles;
        OutputError.
        """
        if Path(path).is_file():
            present = LabelFile.read(path).tiles
            if present == dict(self.tiles):
                return
            if present.keys() == self.tiles.keys():
                tile = next(key for key in self.tiles if present[key] != self.tiles[key])
                raise LedgerError(
                    f"{path}: holds other labels for tile {tile} than are to be committed; if the file is "
                    "wrong, delete it and run again"
                )
        self.write(path)
