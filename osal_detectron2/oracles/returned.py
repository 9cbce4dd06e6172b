"""From what people did to each tile of a file to answers: which tiles count as reviewed, and what must be asked.

A tile counts as reviewed when its "review" says so ("done", "empty" or "rejected"), or when the file comes from a tool
that drops that entry. Our own pre-annotations sent back untouched are no review. What may be damage that nobody meant
(DOUBTS) is refused until the person who imports says what it is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..core.boxes import pairwise_iou_xywh
from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY, TileLabels
from ..exchange.batch import PENDING, UNKNOWN, Request, RequestedTile

REVIEWS = (PENDING, "done", "empty", REJECTED)
SAME_NUCLEUS_IOU = 0.9

Box = tuple[str, float, float, float, float]  # class name, x, y, w, h in pixels


@dataclass(frozen=True)
class ReturnedTile:
    """What a file says of one tile. review: None where the file has lost it."""

    boxes: list[Box]
    review: object = None


@dataclass
class Returned:
    """answers: reviewed tiles by key. present: {key of the batch: its name in the file}. problems: refuse the
    file if there is one. notes: what a person should know."""

    answers: dict[str, TileLabels] = field(default_factory=dict)
    present: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def answer(
    tiles: Mapping[str, ReturnedTile],
    request: Request,
    *,
    treat_empty_as: str,
    opened: Collection[str] | str | None,
    accept: Collection[str],
    annotator: str,
    result: Returned,
) -> None:
    """Fill in `answers` of `result` from the tiles of a file, and what stands against them.

    treat_empty_as: "pending" or "empty", for tiles without boxes in a file without "review"; "empty" needs `opened`,
    the keys of the tiles that somebody opened, or "all". accept: words of ACCEPT (exchange/words.py).
    """
    if strange := sorted(set(() if opened in (None, "all") else opened) - request.tiles.keys()):
        result.problems.append(
            f"--opened names {few(strange)}: not of this batch; write the file_name of batch.json"
        )
    foreign = all(tile.review is None for tile in tiles.values())
    thinned, unopened, twice, two, unnamed = {}, [], {}, {}, {}
    for key in (key for key in request.tiles if key in tiles):
        boxes, asked = tiles[key].boxes, request.tiles[key]
        was_opened = opened == "all" or (opened is not None and key in opened)
        if not foreign:
            state = _review_state(key, tiles[key].review, boxes, asked, result)
        elif not boxes:
            state = REVIEWED_EMPTY if treat_empty_as == "empty" and was_opened else None
            if treat_empty_as == "empty" and opened is None:
                unopened.append(key)
        else:
            state = _foreign_state(key, boxes, asked, accept, opened is None or was_opened, result)
            if state == LABELLED and "thinned" not in accept and _thinned(boxes, asked):
                thinned[key] = f"{len(boxes)} of {len(asked.prelabels)} left"
        if state is None:
            continue
        kept = list(boxes) if state == LABELLED else []
        duplicates, doubles = _same_nucleus(kept)
        if number := sum(box[0] not in request.classes for box in kept):
            unnamed[key] = str(number)
        if duplicates:
            twice[key] = str(len(duplicates))
        if doubles:
            two[key] = " and ".join(sorted({f"{a}/{b}" for a, b in doubles}))
        if "duplicates" in accept:
            kept = [box for index, box in enumerate(kept) if index not in duplicates]
        result.answers[key] = TileLabels(state, [b[1:] for b in kept], [b[0] for b in kept], annotator)
    if unnamed:
        result.problems.append(
            f"{sum(map(int, unnamed.values()))} boxes in {len(unnamed)} tiles are {UNKNOWN} as in the draft: "
            f"{_listed(unnamed)}; this run learns each class under its name, so give them one of "
            f"{', '.join(request.classes)}"
        )
    _ask(result, accept, thinned=thinned, unopened=unopened, twice=twice, two=two)


def _ask(
    result: Returned,
    accept: Collection[str],
    *,
    thinned: Mapping[str, str],
    unopened: list[str],
    twice: Mapping[str, str],
    two: Mapping[str, str],
) -> None:
    """Put the doubts as problems, or as notes where the importer has said what they are."""
    if unopened:
        result.problems.append(
            f'{len(unopened)} tiles have no box and would become labels that say "no nucleus here": {few(unopened)}; '
            "tools export tasks that nobody opened just so. Say which were opened: --opened FILE (a text file, one "
            "file_name a line), or --opened all"
        )
    if thinned:
        result.problems.append(
            f"{len(thinned)} tiles are their pre-annotations with some deleted, and nothing was added, moved or "
            f"renamed: {_listed(thinned)}; set review to done, or say --accept-thinned if somebody went through them"
        )
    boxes = sum(map(int, twice.values()))
    if twice and "duplicates" in accept:
        result.notes.append(f"{boxes} boxes that were there twice were left out: {_listed(twice)}")
    elif twice:
        result.problems.append(
            f"{boxes} boxes are there twice (one class, IoU .9 or more) in {len(twice)} tiles: {_listed(twice)}; "
            "delete them, or say --accept-duplicates to keep one of each"
        )
    if two and "two-classes" in accept:
        result.notes.append(f"nuclei with boxes of two classes were kept so: {_listed(two)}")
    elif two:
        result.problems.append(
            f"nuclei in {len(two)} tiles have boxes of two classes (IoU .9 or more): {_listed(two)}; delete the wrong "
            "ones, or say --accept-two-classes if both are right"
        )


def _listed(tiles: Mapping[str, str]) -> str:
    return few([f"{key} ({what})" for key, what in tiles.items()])


def few(words: Collection[str]) -> str:
    """The first five, and that there are more."""
    listed = list(words)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")


def legible(text: str, most: int = 600) -> str:
    """What is said of a file from elsewhere: without control characters, and shortened in its middle."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _same_nucleus(boxes: list[Box]) -> tuple[set[int], list[tuple[str, str]]]:
    """Of boxes with IoU .9 or more: rows that repeat an earlier box of their class; (class, class) of the others."""
    iou = pairwise_iou_xywh([b[1:] for b in boxes], [b[1:] for b in boxes])
    duplicates, doubles = set(), []
    for i, j in zip(*(iou >= SAME_NUCLEUS_IOU).nonzero()):
        if i < j and boxes[i][0] == boxes[j][0]:
            duplicates.add(int(j))
        elif i < j:
            doubles.append((boxes[i][0], boxes[j][0]))
    return duplicates, doubles


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
        result.problems.append(
            f"tile {key}: review is {review!r}; write {', '.join(REVIEWS[:-1])} or {REVIEWS[-1]}"
        )
    elif review is not None and not _unchanged(boxes, tile):
        result.notes.append(f'tile {key}: was edited, but its review is still "pending": set it to "done"')
    return None


def _foreign_state(
    key: str, boxes: list[Box], tile: RequestedTile, accept: Collection[str], opened: bool, result: Returned
) -> str | None:
    """The state of a tile with boxes from another tool's file, which has no "review"; None: still pending."""
    if not _unchanged(boxes, tile) or ("unchanged" in accept and opened):
        return LABELLED
    result.notes.append(
        f"tile {key}: equals its pre-annotations and stays pending; "
        "if it was reviewed, say --accept-unchanged"
    )
    return None


def _unchanged(boxes: list[Box], tile: RequestedTile) -> bool:
    """Whether the boxes are the pre-annotations again."""
    return len(boxes) == len(tile.prelabels) and _from_draft(boxes, tile)


def _thinned(boxes: list[Box], tile: RequestedTile) -> bool:
    """Whether the boxes are the pre-annotations without some of them."""
    return len(boxes) < len(tile.prelabels) and _from_draft(boxes, tile)


def _from_draft(boxes: list[Box], tile: RequestedTile, tolerance: float = 0.06) -> bool:
    """Whether each box is a pre-annotation of its own, up to a tool's rounding (pixels)."""
    left = list(tile.prelabels)
    for name, *box in boxes:
        same = (p for p in left if p[0] == name and all(abs(a - b) <= tolerance for a, b in zip(box, p[1:])))
        match = next(same, None)
        if match is None:
            return False
        left.remove(match)
    return True
