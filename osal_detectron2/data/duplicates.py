"""Tiles that are the same or nearly so: equal pixels, pictures that look alike, parts of one parent that overlap.

Numpy and Pillow. `facts` are {file name: `checks.ImageFacts`} throughout.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from osal_detectron2.data.coco_file import ERROR, WARNING, Finding

MOST = 0.5  # of the smaller of two tiles
CELLS = 16
# Of the bits of two hashes. The same tile saved as JPEG of quality 20, at half the size or moved by two pixels
# differs in up to 0.13; different tiles of CoNSeP (656, of which many are neighbours) in 0.22 and more.
ALIKE = 0.15
FAINT = 4.0  # standard deviation of the grey values (0-255) below which a tile is glass, and its hash noise
_ROWS = 500  # rows of a comparison at a time: 5,000 tiles then take 10 MB


def difference_hash(picture: Image.Image) -> bytes:
    """The signs of the differences between neighbouring cells, across and down: 2 * CELLS^2 bits (dHash of N. Krawetz,
    along both axes). b"" for a tile without structure."""
    grey = picture.convert("L")
    cells = np.asarray(grey.resize((CELLS + 1, CELLS + 1), Image.Resampling.BOX), dtype=np.int16)
    if np.asarray(grey).std() < FAINT:
        return b""
    across, down = np.diff(cells, axis=1)[:CELLS], np.diff(cells, axis=0)[:, :CELLS]
    return np.packbits(np.concatenate([across.ravel() > 0, down.ravel() > 0])).tobytes()


def lookalikes(hashes: Sequence[bytes], others: Sequence[bytes] | None = None) -> list[tuple[int, int]]:
    """(index, index of the one that it is most like) for each of `hashes` that is like one of `others`; without
    `others`, like an earlier one of `hashes`. Empty hashes are like nothing."""
    within = others is None
    mine, theirs = _signs(hashes), _signs(hashes if within else others)
    if not len(mine) or not len(theirs):
        return []
    pairs, bits = [], mine.shape[1]
    for begin in range(0, len(mine), _ROWS):
        differing = (bits - mine[begin : begin + _ROWS] @ theirs.T) / 2
        differing[(mine[begin : begin + _ROWS] == 0).all(axis=1)] = bits
        differing[:, (theirs == 0).all(axis=1)] = bits
        if within:
            rows = np.arange(begin, begin + len(differing))
            differing[np.arange(len(theirs)) >= rows[:, None]] = bits
        nearest = differing.argmin(axis=1)
        found = np.flatnonzero(differing[np.arange(len(nearest)), nearest] <= ALIKE * bits)
        pairs += [(begin + int(row), int(nearest[row])) for row in found]
    return pairs


def _signs(hashes: Sequence[bytes]) -> np.ndarray:
    """(n, bits) of -1 and 1; a row of zeros for an empty hash."""
    signs = np.zeros((len(hashes), 2 * CELLS**2), dtype=np.float32)
    for row, value in zip(signs, hashes):
        if value:
            row[:] = np.unpackbits(np.frombuffer(value, dtype=np.uint8)) * 2.0 - 1.0
    return signs


def repeated_image_findings(facts: Mapping, json_file: str) -> Iterator[Finding]:
    """Images of one set with the same pixels; single-coloured ones (glass) do not count."""
    first = {}
    for name, fact in facts.items():
        if fact.digest and not fact.blank and first.setdefault(fact.digest, name) != name:
            message = f"{json_file}: {name} has the same pixels as {first[fact.digest]}"
            yield Finding(WARNING, "image-repeated", message, "remove one: it would be paid twice")


def shared_content_findings(
    facts: Mapping, other: Mapping, sets: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    """Images with the same pixels in both sets."""
    there = {fact.digest: name for name, fact in other.items() if fact.digest and not fact.blank}
    for name, fact in facts.items():
        if fact.digest in there:
            twin = f"{there[fact.digest]} of {sets[1][0]}"
            message = f"{name} of {sets[0][0]} has the same pixels as {twin}"
            yield Finding(
                ERROR, "leak-content", message, "remove it from one: test figures would be too good"
            )


def similar_findings(facts: Mapping, json_file: str) -> Iterator[Finding]:
    """Images of one set that look alike; those with equal pixels are told apart from them."""
    remedy = "look at both; remove one if they show the same nuclei: it would be paid twice"
    names = [name for name, fact in facts.items() if fact.looks]
    for one, other in lookalikes([facts[name].looks for name in names]):
        if facts[names[one]].digest != facts[names[other]].digest:
            message = f"{json_file}: {names[one]} looks like {names[other]}"
            yield Finding(WARNING, "image-similar", message, remedy)


def shared_look_findings(
    facts: Mapping, others: Mapping, sets: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    """Images of the first set that look like one of the second."""
    remedy = (
        "look at both; remove it from one set if they show the same nuclei: test figures would be too good"
    )
    here, there = ([name for name, fact in part.items() if fact.looks] for part in (facts, others))
    looks = ([facts[name].looks for name in here], [others[name].looks for name in there])
    for one, other in lookalikes(*looks):
        if facts[here[one]].digest != others[there[other]].digest:
            message = f"{here[one]} of {sets[0][0]} looks like {there[other]} of {sets[1][0]}"
            yield Finding(ERROR, "leak-similar", message, remedy)


def overlap_findings(data: dict, json_file: str) -> Iterator[Finding]:
    """Tiles that share most of their area with another of the same parent, and nuclei that stand in several tiles, by
    `images[].origin` and `annotations[].parent_id` as `tiling` writes them."""
    origin = {i["id"]: i["origin"] for i in data["images"] if isinstance(i.get("origin"), dict)}
    by_parent = defaultdict(list)
    for image in data["images"]:
        if image["id"] in origin:
            by_parent[origin[image["id"]]["parent"]].append(image)
    twins = {}
    for images in by_parent.values():
        for one, other in _twins([origin[image["id"]] for image in images]):
            twins.setdefault(images[one]["file_name"], images[other]["file_name"])
    if twins:
        first, other = next(iter(twins.items()))
        message = (
            f"{json_file}: {len(twins)} of {len(data['images'])} tiles share most of their area with another, "
            f"first {first} with {other}"
        )
        remedy = "cut again with osal data tile, which divides evenly: they would be paid and counted twice"
        yield Finding(WARNING, "tile-overlap", message, remedy)
    copies = Counter(
        (origin[entry["image_id"]]["parent"], entry["parent_id"])
        for entry in data["annotations"]
        if entry["image_id"] in origin and "parent_id" in entry and not entry.get("iscrowd", 0)
    )
    if repeated := sum(number > 1 for number in copies.values()):
        message = f"{json_file}: {repeated} of {len(copies)} nuclei stand in more than one tile"
        remedy = "cut without overlap: they are annotated twice in a pool and counted twice in a test set"
        yield Finding(WARNING, "nucleus-repeated", message, remedy)


def _twins(origins: Sequence[Mapping]) -> list[tuple[int, int]]:
    """Pairs of windows of one parent that share more than MOST of the smaller one."""
    low = np.array([[o["x"], o["y"]] for o in origins], dtype=float)
    size = np.array([[o["width"], o["height"]] for o in origins], dtype=float)
    high, area = low + size, size.prod(axis=1)
    pairs = []
    for begin in range(0, len(low), _ROWS):
        rows = slice(begin, begin + _ROWS)
        shown = np.minimum(high[rows, None], high) - np.maximum(low[rows, None], low)
        shared = np.maximum(shown, 0).prod(axis=2) > MOST * np.minimum(area[rows, None], area)
        pairs += [(int(i) + begin, int(j)) for i, j in zip(*np.nonzero(shared)) if i + begin != j]
    return pairs
