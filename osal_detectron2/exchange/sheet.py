"""What every reader makes of a tool's file: the tiles that one person answered, in pixels, with nothing decided yet."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .batch import Request

# How a tile's state is written in tools that have labels for a whole image (CVAT's tags, a frame's class in QuPath).
TILE_DONE, TILE_REJECTED, TILE_PENDING = "tile: done", "tile: rejected", "tile: pending"
REVIEW = {TILE_DONE: "done", TILE_REJECTED: "rejected"}

_BATCH_NAME = re.compile(r"osal-(\w+)-([0-9a-f]{16})")


def batch_name(request: Request) -> str:
    """The name that says in a tool which batch it holds."""
    return f"osal-{request.round_index}-{request.batch}"


@dataclass
class Page:
    """One tile in a file.

    name: as the file has it. boxes: (place in the file, class name, [x, y, w, h] in pixels of the tile). size: (width,
    height) if the file says it. review: "done", "rejected" or "pending", None where the tool cannot say.
    seconds: spent on it.
    """

    name: str
    boxes: list[tuple[str, str, Sequence[float]]] = field(default_factory=list)
    size: tuple | None = None
    review: str | None = None
    seconds: float | None = None


@dataclass
class Sheet:
    """One person's answers in a file.

    annotator: None where the file does not say whose. untouched: names of tiles in the file that nobody answered.
    batch, round_index: those that the file was made for, None where that is lost. problems: refuse the file if there is
    one; notes: what a person should know. coco: what the file holds is COCO already, in place of pages.
    """

    pages: list[Page] = field(default_factory=list)
    annotator: str | None = None
    untouched: list[str] = field(default_factory=list)
    batch: str | None = None
    round_index: object = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    coco: object = None

    def made_for(self, name: str | None) -> None:
        """Take batch and round from a name as `batch_name` makes them, if it is one."""
        if found := _BATCH_NAME.fullmatch((name or "").strip()):
            self.round_index, self.batch = found.groups()

    def as_coco(self) -> object:
        """The pages as COCO, for the one check that all files go through (oracles/coco_return.py)."""
        if self.coco is not None:
            return self.coco
        ids: dict[str, int] = {}
        images, annotations = [], []
        for number, page in enumerate(self.pages):
            image = {"id": number, "file_name": page.name}
            if page.size is not None:
                image["width"], image["height"] = page.size
            if page.review is not None:
                image["review"] = page.review
            images.append(image)
            for place, name, box in page.boxes:
                category = ids.setdefault(name, len(ids))
                annotations.append(
                    {"id": place, "image_id": number, "category_id": category, "bbox": list(box)}
                )
        categories = [{"id": number, "name": name} for name, number in ids.items()]
        return {"images": images, "annotations": annotations, "categories": categories}


def drop_reviews_if_unused(pages: list[Page]) -> None:
    """Where nobody used the tool's states, it is a file without any: None for every page."""
    if all(page.review in (None, "pending") for page in pages):
        for page in pages:
            page.review = None


def around(points: Sequence[Sequence[float]]) -> list[float]:
    """The box [x, y, w, h] around points (x, y)."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
