"""The rectangles that an image is cut into. Standard library only."""

import math
from collections import Counter

from osal_detectron2.core.errors import DataError

EDGE_RULES = ("even", "shift", "pad", "drop")
CUT_RULES = ("center", "visible", "whole")  # of boxes at a seam, see tiling.py


def tile_starts(size: int, tile: int, overlap: int = 0, edge: str = "shift") -> list[int]:
    """First pixels of the tiles along an axis of `size` pixels.

    Where the last tile would reach past the end, `edge` decides: "shift" moves it inward (it then overlaps
    its neighbour), "pad" lets it stand out, "drop" leaves the rest of the image out. An axis shorter than
    one tile gives one (smaller or padded) tile, or none with "drop".
    """
    if tile < 1 or not 0 <= overlap < tile:
        raise DataError(f"tile {tile} and overlap {overlap} do not fit; overlap must be 0 to tile - 1 pixels")
    if edge not in EDGE_RULES:
        raise DataError(f"edge rule {edge!r} is none of {', '.join(EDGE_RULES)}")
    stride = tile - overlap
    if edge == "drop":
        return list(range(0, size - tile + 1, stride))
    count = max(0, math.ceil((size - tile) / stride)) + 1
    starts = [index * stride for index in range(count)]
    if edge == "shift":
        starts[-1] = max(0, min(starts[-1], size - tile))
    return starts


def tile_spans(size: int, tile: int, overlap: int = 0, edge: str = "shift") -> list[tuple[int, int]]:
    """(first pixel, length) of the tiles along an axis of `size` pixels.

    "even" divides the axis into parts of nearly equal length, as many as bring it nearest to `tile`: nothing is left
    out and neighbours share `overlap` pixels and no more (505 at 250: 0 to 252 and 252 to 505). The other rules keep
    the length and differ in the starts (`tile_starts`); a span is cut at the end of the axis.
    """
    if edge != "even":
        return [(start, min(tile, size - start)) for start in tile_starts(size, tile, overlap, edge)]
    tile_starts(size, tile, overlap)  # refuses what does not fit
    step = max(size - overlap, 1)
    count = max(1, math.floor(step / (tile - overlap) + 0.5))
    starts = [step * index // count for index in range(count + 1)]
    return [(low, min(high + overlap, size) - low) for low, high in zip(starts, starts[1:])]


def tile_windows(
    width: int, height: int, tile: int, overlap: int = 0, edge: str = "shift"
) -> list[tuple[int, int, int, int]]:
    """Windows of an image, row by row, cut at its border: a padded tile's window is smaller than the tile."""
    across = tile_spans(width, tile, overlap, edge)
    return [(x, y, w, h) for y, h in tile_spans(height, tile, overlap, edge) for x, w in across]


def layouts(images: list[dict], *, tile: int, overlap: int = 0, edge: str = "even") -> list[str]:
    """One sentence for each size of `images`: how many tiles, of what size, and what neighbours share."""
    sizes = Counter((int(image["width"]), int(image["height"])) for image in images)
    return [
        f"{number} images of {width}x{height} px: {_along(width, tile, overlap, edge)} across, "
        f"{_along(height, tile, overlap, edge)} down"
        for (width, height), number in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    ]


def _along(size: int, tile: int, overlap: int, edge: str) -> str:
    spans = tile_spans(size, tile, overlap, edge)
    lengths = sorted({length for _, length in spans})
    shared = max((low + length - nxt for (low, length), (nxt, _) in zip(spans, spans[1:])), default=0)
    text = (
        f"{len(spans)} tiles of {'-'.join(str(n) for n in (lengths[:1] + lengths[-1:])[: len(lengths)])} px"
    )
    if shared > 0:
        text += f" that share up to {shared}"
        text += " (most of a tile: annotated twice)" if 2 * shared > lengths[0] else ""
    return text if spans else "no tile"
