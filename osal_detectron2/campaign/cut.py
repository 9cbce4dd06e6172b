"""From images to tiles in the campaign's own folder: cut where they are large, copied where they are not.

Left out: tiles without structure (glass), tiles that look like an earlier one. A labelled tile always stays.
"""

import filecmp
import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..core.errors import DataError
from ..core.store import atomic_path, write_bytes
from ..data.appearance import appearance
from ..data.coco_file import clip_box
from ..data.duplicates import difference_hash, lookalikes
from ..data.tiling import boxes_in_window
from ..data.windows import tile_windows
from .images import Parent

_SHOWN = (".png", ".jpg", ".jpeg")
GLASS, TWINS = "without structure (glass)", "like another tile"


@dataclass
class Tile:
    """One tile. key: its file_name below tiles/. features: see data/appearance.py. boxes: those of a labelled image, by
    class name, in pixels of the tile. origin: as in data/tiling.py; None for an image that was not cut."""

    key: str
    width: int
    height: int
    group: str
    features: np.ndarray
    looks: bytes = b""
    boxes: list[tuple[str, list[float]]] | None = None
    origin: dict | None = None


def cut(
    parents: list[Parent],
    groups: Mapping[str, str],
    out: Path,
    *,
    tile: int,
    downsample: float,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Tile], dict[str, int]]:
    """(the tiles, sorted by key; {why: how many were left out}). Files that are right already are left alone.

    groups: {parent name: slide}. Raises DataError for an image that cannot be read and for two tiles of one name.
    """
    tiles: list[Tile] = []
    left_out, seen = {GLASS: 0, TWINS: 0}, dict[str, str]()
    for number, parent in enumerate(parents, start=1):
        side = round(tile * downsample)
        windows = tile_windows(parent.width, parent.height, side, 0, "even")
        for window in windows:
            size = (max(1, round(window[2] / downsample)), max(1, round(window[3] / downsample)))
            picture = parent.pixels(window, size)
            looks = difference_hash(picture)
            if not looks and parent.boxes is None:
                left_out[GLASS] += 1
                continue
            whole = len(windows) == 1 and downsample == 1 and not parent.slide
            key = _key(parent.name, None if whole else window)
            if (other := seen.setdefault(key.casefold(), parent.name)) != parent.name:
                raise DataError(f"{other} and {parent.name} would make tiles of one name, {key}; rename one")
            _write(picture, parent, out / key, whole=whole)
            one = Tile(key, *size, groups[parent.name], appearance(picture), looks)
            if not whole:
                x, y, w, h = window
                one.origin = {"parent": parent.name, "x": x, "y": y, "width": w, "height": h}
                one.origin |= {"downsample": downsample} if downsample != 1 else {}
            if parent.boxes is not None:
                one.boxes = _boxes(parent, window, downsample)
            tiles.append(one)
        parent.close()
        if progress:
            progress(f"{number} of {len(parents)} images, {len(tiles)} tiles")
    tiles.sort(key=lambda t: (t.boxes is None, t.key))  # of twins the labelled one stays
    twins = {one for one, _ in lookalikes([t.looks for t in tiles]) if tiles[one].boxes is None}
    left_out[TWINS] = len(twins)
    kept = [t for index, t in enumerate(tiles) if index not in twins]
    for index in twins:
        (out / tiles[index].key).unlink(missing_ok=True)
    return sorted(kept, key=lambda t: t.key), {why: n for why, n in left_out.items() if n}


def _key(name: str, window: tuple[int, int, int, int] | None) -> str:
    """The tile's name: that of its image if it is all of it and a browser shows it, otherwise a PNG."""
    path = PurePosixPath(name)
    if window is None:
        return name if path.suffix.lower() in _SHOWN else path.with_suffix(".png").as_posix()
    return path.with_name(f"{path.stem}_x{window[0]:06d}_y{window[1]:06d}.png").as_posix()


def _write(picture: Image.Image, parent: Parent, path: Path, *, whole: bool) -> None:
    if whole and parent.path.suffix.lower() in _SHOWN:
        if not path.is_file() or not filecmp.cmp(path, parent.path, shallow=False):
            with atomic_path(path) as temporary:
                shutil.copyfile(parent.path, temporary)
        return
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    if not path.is_file() or path.read_bytes() != stream.getvalue():
        write_bytes(path, stream.getvalue())


def _boxes(parent: Parent, window: tuple[int, int, int, int], downsample: float) -> list:
    """The labelled boxes whose centre is in the window, cut at it, in pixels of the tile; no crowds."""
    named = [
        (name, clip_box(box, parent.width, parent.height))
        for name, box, crowd in parent.boxes or ()
        if not crowd
    ]
    named = [(name, box) for name, box in named if min(box[2:]) > 0]
    boxes = np.array([box for _, box in named], dtype=float).reshape(-1, 4)
    kept, inside = boxes_in_window(boxes, np.zeros(len(boxes), dtype=bool), window)
    return [(named[index][0], [v / downsample for v in box]) for index, box in zip(kept, inside.tolist())]
