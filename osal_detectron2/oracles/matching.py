"""Which tile of the batch and which class of the run an entry of a returned file means. Nothing is guessed.

What cannot be told is a problem, with a hint where a name is nearly right.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from ..exchange.batch import UNKNOWN, Request
from .returned import Returned, few


def match_images(
    entries: list[dict],
    request: Request,
    *,
    pool: Collection[str],
    accept_names: bool,
    skip_other_tiles: bool,
    result: Returned,
) -> dict[str, dict]:
    """Image entries by key of the batch, matched exactly, or by the last path parts if that is unique.

    pool: all image keys of the run; such a name means that tile and no other. accept_names: an image with another
    suffix or a name around that of a tile (`looks_like`) is that tile.
    """
    matched: dict[str, dict] = {}
    ids, foreign, near, loose = set(), [], {}, 0
    for entry in entries:
        name = entry.get("file_name")
        if not isinstance(name, str):
            result.problems.append(f"image {entry['id']!r}: needs a file_name; export again")
            continue
        if entry["id"] in ids:
            result.problems.append(f"image id {entry['id']!r} occurs twice; export again")
        ids.add(entry["id"])
        key = name if name in request.tiles else None
        if key is None and name not in pool:
            candidates = [key for key in request.tiles if _same_tail(_parts(name), _parts(key))]
            if len(candidates) > 1:
                result.problems.append(
                    f"image {name}: may be {' or '.join(candidates[:3])}; write the full file_name"
                )
                continue
            key, loose = (candidates[0], loose + 1) if candidates else (None, loose)
            if key is None and (alike := looks_like(name, request.tiles)):
                near[name] = alike
                key = alike if accept_names else None
                if key is None:
                    continue
        if key is None:
            foreign.append(name)
            continue
        if key in matched:
            result.problems.append(
                f"image {name}: tile {key} occurs twice; if two people labelled it, import a file for each, "
                "with --annotator NAME"
            )
            continue
        tile = request.tiles[key]
        size = (entry.get("width", tile.width), entry.get("height", tile.height))
        if size != (tile.width, tile.height):
            result.problems.append(
                f"image {name}: is {size[0]} x {size[1]} pixels, the tile is {tile.width} x {tile.height}; "
                "annotate the original, not a resized copy"
            )
        matched[key] = entry
    _say_near(near, accept_names, result)
    if foreign and skip_other_tiles:
        result.notes.append(f"{len(foreign)} images are not of this batch and were skipped: {few(foreign)}")
    elif foreign:
        result.problems.append(
            f"{len(foreign)} images are not of this batch: {few(foreign)}; remove them, or say --skip-other-tiles"
        )
    if loose:
        result.notes.append(f"{loose} images were matched by the last parts of their path only")
    return matched


def _say_near(near: Mapping[str, str], accepted: bool, result: Returned) -> None:
    """A problem, or a note if `accepted`, for images that look like tiles with another suffix or name."""
    for what in ("suffix", "name"):
        pairs = [f"{n} like {k}" for n, k in near.items() if (_stem(n) == _stem(k)) == (what == "suffix")]
        if pairs and accepted:
            result.notes.append(f"{len(pairs)} images were taken for tiles with another {what}: {few(pairs)}")
        elif pairs:
            result.problems.append(
                f"{len(pairs)} images look like tiles of the batch with another {what}: {few(pairs)}; write the "
                "file_name of batch.json, or say --accept-names if they are these tiles"
            )


def looks_like(name: str, keys: Collection[str]) -> str | None:
    """The only one of `keys` that `name` may be: with another suffix, or with something before or after its name.

    "t1.jpg" and "3f2a-t1.png" look like "slide/t1.png", "t12.png" and "other/t1.png" do not.
    """
    *folders, last = _parts(name)
    stem, found = _stem(last), []
    for key in keys:
        *parents, own = _parts(key)
        around = rf"(?<![0-9a-z]){re.escape(_stem(own))}(?![0-9a-z])"
        if _same_tail(folders, parents) and re.search(around, stem):
            found.append(key)
    exact = [key for key in found if _stem(key) == stem]
    found = exact or found
    return found[0] if len(found) == 1 else None


def _parts(path: str) -> list[str]:
    return re.split(r"[\\/]+", path)


def _stem(path: str) -> str:
    return PurePosixPath(_parts(path)[-1]).stem.casefold()


def _same_tail(a: list[str], b: list[str]) -> bool:
    """Whether the path parts of one end with all path parts of the other: "t1.png" and "slide/t1.png"."""
    shorter = min(len(a), len(b))
    return a[len(a) - shorter :] == b[len(b) - shorter :]


def match_classes(
    content: Mapping, used: list, request: Request, map_class: Mapping[str, str], result: Returned
) -> dict[object, str | None]:
    """Class name of the batch by category id of the file; `used`: the category id of each box that counts."""
    names: dict[object, str] = {}
    for category in content["categories"]:
        if category["id"] in names and names[category["id"]] != category.get("name"):
            result.problems.append(
                f"category id {category['id']!r} occurs twice, under two names; export again"
            )
        names[category["id"]] = str(category.get("name"))
    for new in sorted(set(map_class.values()) - set(request.classes)):
        result.problems.append(
            f"--map-class to {new!r}: this run has the classes {', '.join(request.classes)}"
        )
    for old in sorted(set(map_class) - set(names.values())):
        result.notes.append(f"--map-class from {old!r}: no such class in the file")
    matched: dict[object, str | None] = {}
    for identity in sorted(set(used), key=repr):
        if identity not in names:
            result.problems.append(
                f"category_id {identity!r} ({used.count(identity)} annotations) has no category; export again"
            )
            continue
        name = map_class.get(names[identity], names[identity])
        drafted = name == UNKNOWN and any(b[0] == name for t in request.tiles.values() for b in t.prelabels)
        matched[identity] = (
            name if name in request.classes or drafted else None
        )  # `answer` asks for another name
        if matched[identity] is None and name not in map_class.values():
            result.problems.append(
                f"class {name!r} ({used.count(identity)} annotations) is not of this run "
                f"({', '.join(request.classes)}); {_ways_out(name, request.classes)}"
            )
    return matched


def _ways_out(name: str, classes: tuple[str, ...]) -> str:
    """What to do about a class that the run does not have; a class is proposed for a near spelling of it only."""
    word = name.casefold().strip()
    folded = {known.casefold(): known for known in classes}
    near = difflib.get_close_matches(
        word, [known for known in folded if known[:1] == word[:1]], n=1, cutoff=0.8
    )
    if near:
        return f"if it is another spelling, say --map-class '{name}={folded[near[0]]}'"
    other = (
        f"--map-class '{name}={UNKNOWN}' if it is none of the others"
        if UNKNOWN in classes
        else "take its boxes out of the file if it is none of them"
    )
    return f"say --map-class '{name}=CLASS' if it is another name of one of these, {other}"
