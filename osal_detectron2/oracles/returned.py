"""Reading what people send back: one COCO file against the exact batch, nothing guessed.

A tile counts as reviewed when its image entry says so ("review": "done", "empty" or "rejected"), or when the
file comes from a tool that drops that entry. Our own pre-annotations sent back untouched are no review.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY, TileLabels
from .batch import PENDING, Request, RequestedTile

_IDS = (int, float, str)
REVIEWS = (PENDING, "done", "empty", REJECTED)


@dataclass
class Returned:
    """answers: reviewed tiles by key. present: keys of the batch that the file names. problems: refuse the
    file if there is one. notes: what a person should know."""

    answers: dict[str, TileLabels] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_returned(
    content: object,
    request: Request,
    *,
    pool: frozenset[str] = frozenset(),
    map_class: Mapping[str, str] | None = None,
    treat_empty_as: str = PENDING,
    accept_unchanged: bool = False,
    annotator: str = "human",
) -> Returned:
    """Check parsed COCO JSON against `request`.

    pool: all image keys of the run; such a name means that tile and no other. map_class: {name in the file:
    name in the batch}. treat_empty_as: "pending" or "empty", for tiles without annotations in a file without
    "review". accept_unchanged: tiles equal to their pre-annotations in such a file were reviewed.
    """
    result = Returned()
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        result.problems.append("is not COCO JSON: it needs the lists images, annotations and categories")
        return result
    if not all(isinstance(entry, dict) for name in lists for entry in content[name]):
        result.problems.append("images, annotations and categories must hold objects")
        return result

    if not all(isinstance(image.get("id"), _IDS) for image in content["images"] + content["categories"]):
        result.problems.append("images and categories must each have an id, a number or text")
        return result
    for annotation in content["annotations"]:
        if not all(isinstance(annotation.get(name), _IDS) for name in ("image_id", "category_id")):
            result.problems.append(f"annotation {annotation.get('id')!r}: needs image_id and category_id")
    if result.problems:
        return result
    images = _match_images(content["images"], request, pool, result)
    names = _match_classes(content, request, map_class or {}, result)
    boxes: dict[str, list] = {key: [] for key in images}
    keys = {image["id"]: key for key, image in images.items()}
    known_ids = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        label = f"annotation {annotation.get('id')!r}"
        if annotation["image_id"] not in known_ids:
            result.problems.append(f"{label}: image_id {annotation['image_id']!r} is not among the images")
        elif (key := keys.get(annotation["image_id"])) is not None:
            box = _read_box(annotation, request.tiles[key], f"{label} (tile {key})", result)
            name = names.get(annotation["category_id"])
            if box is not None and name is not None:
                boxes[key].append((name, *box))

    reviews = {key: image.get("review") for key, image in images.items()}
    foreign = all(review is None for review in reviews.values())
    for key in (key for key in request.tiles if key in images):
        if foreign:
            state = _foreign_state(
                key, boxes[key], request.tiles[key], treat_empty_as, accept_unchanged, result
            )
        else:
            state = _review_state(key, reviews[key], boxes[key], request.tiles[key], result)
        if state is not None:
            kept = boxes[key] if state == LABELLED else []
            result.answers[key] = TileLabels(state, [b[1:] for b in kept], [b[0] for b in kept], annotator)
    result.present = list(images)
    return result


def _match_images(
    entries: list[dict], request: Request, pool: frozenset[str], result: Returned
) -> dict[str, dict]:
    """Image entries by key of the batch, matched exactly, or by the last path parts if that is unique."""
    matched: dict[str, dict] = {}
    ids, foreign, loose = set(), [], 0
    for entry in entries:
        name = entry.get("file_name")
        if not isinstance(name, str):
            result.problems.append(f"image {entry['id']!r}: needs a file_name")
            continue
        if entry["id"] in ids:
            result.problems.append(f"image id {entry['id']!r} occurs twice")
        ids.add(entry["id"])
        key = name if name in request.tiles else None
        if key is None and name not in pool:
            candidates = [key for key in request.tiles if _same_tail(name, key)]
            if len(candidates) > 1:
                result.problems.append(
                    f"image {name}: may be {' or '.join(candidates[:3])}; write the full file_name"
                )
                continue
            key, loose = (candidates[0], loose + 1) if candidates else (None, loose)
        if key is None:
            foreign.append(name)
            continue
        if key in matched:
            result.problems.append(f"image {name}: tile {key} occurs twice")
            continue
        tile = request.tiles[key]
        size = (entry.get("width", tile.width), entry.get("height", tile.height))
        if size != (tile.width, tile.height):
            result.problems.append(
                f"image {name}: is {size[0]} x {size[1]} pixels, the tile is {tile.width} x {tile.height}; "
                "annotate the original, not a resized copy"
            )
        matched[key] = entry
    if foreign:
        listed = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        result.problems.append(f"{len(foreign)} images are not of this batch: {listed}; remove them")
    if loose:
        result.notes.append(f"{loose} images were matched by the last parts of their path only")
    return matched


def _same_tail(name: str, key: str) -> bool:
    """Whether the path parts of one end with all path parts of the other: "t1.png" and "slide/t1.png"."""
    a, b = (re.split(r"[\\/]+", text) for text in (name, key))
    shorter = min(len(a), len(b))
    return a[-shorter:] == b[-shorter:]


def _match_classes(
    content: dict, request: Request, map_class: Mapping[str, str], result: Returned
) -> dict[object, str | None]:
    """Class name of the batch by category id of the file. Only classes that are used must be known."""
    names = {}
    for category in content["categories"]:
        if category["id"] in names and names[category["id"]] != category.get("name"):
            result.problems.append(f"category id {category['id']!r} occurs twice")
        names[category["id"]] = str(category.get("name"))
    used = [annotation["category_id"] for annotation in content["annotations"]]
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
                f"category_id {identity!r} ({used.count(identity)} annotations) has no category"
            )
            continue
        name = map_class.get(names[identity], names[identity])
        matched[identity] = name if name in request.classes else None
        if matched[identity] is None and name not in map_class.values():
            folded = {known.casefold(): known for known in request.classes}
            near = difflib.get_close_matches(str(name).casefold(), folded, n=1)
            hint = folded[near[0]] if near else request.classes[0]
            result.problems.append(
                f"class {name!r} ({used.count(identity)} annotations) is not of this run "
                f"({', '.join(request.classes)}); rename it, or say --map-class '{name}={hint}'"
            )
    return matched


def _read_box(annotation: dict, tile: RequestedTile, label: str, result: Returned) -> tuple | None:
    """(x, y, w, h) clipped to the tile, or None with a problem."""
    box = annotation.get("bbox")
    numbers = isinstance(box, list) and len(box) == 4
    if not numbers or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box):
        result.problems.append(f"{label}: bbox is {box!r}, not [x, y, width, height]")
    elif not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
        result.problems.append(f"{label}: bbox is {box!r}; width and height must be above 0")
    elif annotation.get("iscrowd"):
        result.problems.append(f"{label}: marks a crowd; draw one box for each nucleus")
    else:
        x, y, w, h = map(float, box)
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, tile.width), min(y + h, tile.height)
        if right > left and bottom > top:
            if left > x or top > y or right < x + w or bottom < y + h:
                if max(left - x, top - y, x + w - right, y + h - bottom) > 1:
                    result.notes.append(f"{label}: bbox {box!r} was cut at the border of the tile")
                return left, top, right - left, bottom - top
            return x, y, w, h
        result.problems.append(f"{label}: bbox {box!r} is outside the tile ({tile.width} x {tile.height})")
    return None


def _review_state(key: str, review: object, boxes: list, tile: RequestedTile, result: Returned) -> str | None:
    """The state of a tile from a file that keeps "review"; None: still pending."""
    word = PENDING if review is None else str(review).strip().lower()
    if review is None:
        result.notes.append(f'tile {key}: has lost its "review" and stays pending')
    if word == "done":
        return LABELLED if boxes else REVIEWED_EMPTY
    if word == "empty":
        if boxes:
            result.problems.append(
                f'tile {key}: review is "empty", but it has {len(boxes)} annotations; '
                'delete them or write "done"'
            )
        return REVIEWED_EMPTY if not boxes else None
    if word == REJECTED:
        return REJECTED
    if word != PENDING:
        result.problems.append(f"tile {key}: review is {review!r}, none of {', '.join(REVIEWS)}")
    elif review is not None and not _unchanged(boxes, tile):
        result.notes.append(f'tile {key}: was edited, but its review is still "pending": set it to "done"')
    return None


def _foreign_state(
    key: str, boxes: list, tile: RequestedTile, treat_empty_as: str, accept_unchanged: bool, result: Returned
) -> str | None:
    """The state of a tile from another tool's file, which has no "review"; None: still pending."""
    if not boxes:
        return REVIEWED_EMPTY if treat_empty_as == "empty" else None
    if _unchanged(boxes, tile) and not accept_unchanged:
        result.notes.append(
            f"tile {key}: equals its pre-annotations and stays pending; "
            "if it was reviewed, say --accept-unchanged"
        )
        return None
    return LABELLED


def _unchanged(boxes: list, tile: RequestedTile, tolerance: float = 0.06) -> bool:
    """Whether the boxes are the pre-annotations again, up to a tool's rounding (pixels)."""
    left = list(tile.prelabels)
    if len(left) != len(boxes):
        return False
    for name, *box in boxes:
        same = (p for p in left if p[0] == name and all(abs(a - b) <= tolerance for a, b in zip(box, p[1:])))
        match = next(same, None)
        if match is None:
            return False
        left.remove(match)
    return True
