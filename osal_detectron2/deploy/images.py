"""What to predict on: a folder of images or a COCO file, and large images in overlapping windows."""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..core.errors import ConfigError, DataError
from ..data.coco_file import read_coco
from ..data.images import image_size, images_below
from ..data.mapper import TileMapper
from ..data.windows import tile_windows


def records_of_folder(folder: str | Path) -> list[dict]:
    """A record for each image below `folder`, sorted by its path from there, which is the image's key.

    Raises DataError for a folder that is missing or has no image, and for a file that is none.
    """
    return [
        _record(path, image_id, path.relative_to(folder).as_posix(), *image_size(path))
        for image_id, path in enumerate(images_below(folder), start=1)
    ]


def records_of_coco(json_file: str | Path, image_root: str | Path) -> tuple[list[dict], dict[str, int]]:
    """(a record for each image of a COCO file, {category name: id}); boxes in it play no part.

    Records of tiles keep `origin` (see data/tiling.py). Raises DataError for an unusable file.
    """
    data = read_coco(str(json_file))
    if not data["images"]:
        raise DataError(f"{json_file}: names no image")
    records = []
    for image in data["images"]:
        path = Path(image_root) / image["file_name"]
        record = _record(path, image["id"], image["file_name"], int(image["width"]), int(image["height"]))
        if image.get("origin"):
            record["origin"] = _checked_origin(image["origin"], f"{json_file}: image {image['file_name']}")
        records.append(record)
    missing = [record["file_name"] for record in records if not Path(record["file_name"]).is_file()]
    if missing:
        raise DataError(
            f"{missing[0]}: no such image, as {len(missing) - 1} of {len(records)} more in {json_file}; "
            "check --image-root"
        )
    return records, {category["name"]: category["id"] for category in data["categories"]}


def _record(path: Path, image_id: int, key: str, width: int, height: int) -> dict:
    return {"file_name": str(path), "image_id": image_id, "image_key": key, "width": width, "height": height}


def _checked_origin(origin, where: str) -> dict:
    problem = f"{where}: origin is not {{parent, x, y}}; cut the images with osal data tile, or remove it"
    if not isinstance(origin, dict) or not isinstance(origin.get("parent"), str):
        raise DataError(problem)
    parent = PurePosixPath(origin["parent"])
    if parent.is_absolute() or ".." in parent.parts or not parent.name:
        raise DataError(f"{where}: its parent {origin['parent']!r} leaves the folder; name it relative to it")
    for key in ("x", "y", "width", "height"):
        value = origin.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(problem)
    return origin


def windows(record: dict, *, tile: int, overlap: int, bound: float) -> list[tuple[int, int, int, int]]:
    """Windows (x, y, width, height) that cover an image: itself, or tiles where its longer side exceeds `bound`."""
    width, height = record["width"], record["height"]
    if not tile or max(width, height) <= bound:
        return [(0, 0, width, height)]
    return tile_windows(width, height, tile, overlap)


def window_records(records: Sequence[dict], *, tile: int, overlap: int, bound: float) -> list[dict]:
    """A record for each window of each image: of the window's size, with `window` and `parent`, the image's record.

    Raises ConfigError for an overlap that does not fit the tile.
    """
    if tile < 0 or (tile and not 0 <= overlap < tile):
        raise ConfigError(
            f"tile {tile} and overlap {overlap} do not fit; overlap must be 0 to tile - 1 pixels"
        )
    return [
        {**record, "width": window[2], "height": window[3], "window": window, "parent": record}
        for record in records
        for window in windows(record, tile=tile, overlap=overlap, bound=bound)
    ]


class WindowMapper:
    """The input dict of a window (see `window_records`). The image of consecutive windows is decoded once."""

    def __init__(self, mapper: TileMapper) -> None:
        self.mapper = mapper
        self._path, self._image = None, None

    def __call__(self, record: dict) -> dict:
        if self._path != record["file_name"]:
            self._path, self._image = record["file_name"], self.mapper.read(record["parent"])
        x, y, width, height = record["window"]
        item = self.mapper.convert(record, self._image[y : y + height, x : x + width])
        return {**item, "window": record["window"]}
