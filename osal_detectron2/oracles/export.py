"""Putting a query to people: a COCO file with the tiles to label, and words about it.

Nothing runs until the answer comes back (exchange.py). docs/human_oracle.md is for the people.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.errors import DataError
from ..core.ledger import Ledger
from ..core.spelling import spelled
from ..core.store import sha256_bytes, sha256_file, write_bytes, write_json
from ..exchange.batch import UNKNOWN, Request, RequestedTile
from ..exchange.coco import content
from ..exchange.files import copy_image
from .answers import Answers
from .progress import BatchStatus, status_of

_README = """\
{tiles} tiles wait for your labels (round {round} of the run {run}).

Please mark every nucleus with a box and give it one of these classes:
    {classes}
{unknown}
1. Take the tiles from the top of images.txt: the most useful come first.
2. Open batch.json (COCO) in your annotation tool. It holds the model's boxes as a first draft: correct them,
   delete the wrong ones, add what is missing. A draft that nobody looked at does not count as a label.
3. For each tile, set "review" in its entry under "images":
       "done"       every nucleus is marked
       "empty"      there is no nucleus (no box may be left)
       "rejected"   not usable: out of focus, folded, no tissue
       "pending"    not looked at yet (how it is sent out)
   For Label Studio, CVAT, QuPath, YOLO or Pascal VOC this writes a folder with instructions of its own:
       osal run export {run} --format label-studio --out NEW_FOLDER
   If your tool drops "review", every tile with changed boxes counts as done; see docs/human_oracle.md.
4. Hand the file back, all tiles or some, as often as you like, each person under a name of their own:
       osal run import {run} YOUR_FILE --annotator YOUR_NAME --dry-run     (look first)
       osal run import {run} YOUR_FILE --annotator YOUR_NAME
5. When all tiles are in, go on training with --resume; `osal run status {run}` prints the command.

Keep the file names and do not resize the images. Estimated work: {cost}.
"""


def export_batch(
    folder: str | Path,
    *,
    round_index: str | int,
    keys: Sequence[str],
    images: Mapping[str, Mapping],
    classes: Sequence[str],
    predictions: Mapping[str, Mapping],
    nuclei: Mapping[str, float | None],
    tile_scores: Mapping[str, Mapping[str, float]],
    reasons: Mapping[str, str],
    seconds_per_nucleus: float,
    seconds_per_tile: float,
    copy_images: bool = False,
) -> BatchStatus:
    """Put the question of `round_index` into `folder`/rounds/NNN/query (`folder` is the run's OUTPUT_DIR).

    keys: in the suggested order. images: records with "file_name", "width", "height", and "origin" if they were
    cut (tiling.py). classes: all class names. predictions: pre-annotations {"boxes": (n, 4) xywh pixels, "classes": n
    names, "scores": n}; a tile may lack them, and may have "unknown" though it is no class: people must rename that.
    nuclei: to expect in each tile, None if nobody knows. copy_images: put the images into query/images too.
    Put again, the same question leaves people's files alone (and writes labels.json if all answers are in).
    Raises LedgerError if `folder` is no run or has answers to another question; DataError; OutputError.
    """
    ledger = Ledger.open(folder)
    query, batch, present = _standing(ledger, round_index, keys)
    if copy_images:
        for key in keys:
            copy_image(Path(images[key]["file_name"]), query / "images", key)
    if present is not None:
        if not (query.parent / "labels.json").is_file():
            Answers.read(query, batch).write_labels(query, present)
        return status_of(query, present)
    Answers.read(query, batch)  # refuses to bury answers to another question

    drafted = {name for prediction in predictions.values() for name in prediction["classes"]}
    names = (*classes, *({UNKNOWN} & drafted - set(classes)))
    tiles = {}
    for key in keys:
        image = images[key]
        width, height = int(image["width"]), int(image["height"])
        drafts = _drafts(key, predictions.get(key, {}), width, height, names)
        ranking = {n: float(v) if math.isfinite(v) else None for n, v in tile_scores.get(key, {}).items()}
        tiles[key] = RequestedTile(
            width,
            height,
            prelabels=tuple((name, *box) for name, box, _ in drafts),
            nuclei=nuclei.get(key),
            scores=tuple(score for *_, score in drafts),
            image=str(image["file_name"]),
            ranking=ranking,
            reason=reasons.get(key, ""),
            origin=_origin(image.get("origin")),
        )
    request = Request(batch, round_index, tuple(classes), tiles, seconds_per_tile, seconds_per_nucleus)
    paths = [f"images/{key}" if copy_images else images[key]["file_name"] for key in keys]
    write_bytes(query / "images.txt", "".join(f"{path}\n" for path in paths).encode())
    fields = {
        "tiles": len(tiles),
        "round": round_index,
        "run": shlex.quote(str(folder)),
        "classes": ", ".join(classes),
        "unknown": _about_unknown(ledger.header["known_classes"], classes)
        if UNKNOWN in request.offered
        else "",
        "cost": status_of(query, request).cost,
    }
    write_bytes(query / "README.txt", spelled(_README.format(**fields)).encode())
    write_json(query / "batch.json", content(request))
    request.write(query)  # last: with it, the question stands
    return status_of(query, request)


def _about_unknown(known_classes: Sequence[str], classes: Sequence[str]) -> str:
    if UNKNOWN not in classes:
        return f'"{UNKNOWN}" in the draft is for you to replace by the right one of the others.\n'
    known = ", ".join(known_classes)
    return f'"{UNKNOWN}" is enough for a nucleus of none of these: {known}. Which of the others it is may stay open.\n'


def batch_stands(ledger: Ledger, round_index: str | int, keys: Sequence[str]) -> bool:
    """Whether exactly this question has been put already."""
    return _standing(ledger, round_index, keys)[2] is not None


def _standing(
    ledger: Ledger, round_index: str | int, keys: Sequence[str]
) -> tuple[Path, str, Request | None]:
    """The folder of the question, its identity, and the question itself if it has been put already."""
    query = ledger.round_dir(round_index) / "query"
    header = sha256_file(ledger.folder / "run.json")
    batch = sha256_bytes(json.dumps([header, round_index, list(keys)]).encode())[:16]
    present = Request.read(query)
    stands = present is not None and present.batch == batch and (query / "batch.json").is_file()
    return query, batch, present if stands else None


def _origin(origin: object) -> dict | None:
    """Where a tile was cut, if that is said as tiling.py says it."""
    if not isinstance(origin, dict) or not isinstance(origin.get("parent"), str):
        return None
    places = [origin.get("x"), origin.get("y"), origin.get("downsample", 1)]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in places) or places[2] <= 0:
        return None
    return {"parent": origin["parent"], "x": places[0], "y": places[1], "downsample": places[2]}


def _drafts(key: str, prediction: Mapping, width: int, height: int, allowed: Sequence[str]) -> list[tuple]:
    """(class name, (x, y, w, h), score) of each pre-annotation, cut at the tile, 2 decimals."""
    drafts = []
    columns = (prediction.get(name, ()) for name in ("boxes", "classes", "scores"))
    for (x, y, w, h), name, score in zip(*columns):
        if name not in allowed:
            raise DataError(
                f"tile {key}: a prediction has class {name!r}, which is not among {', '.join(allowed)}"
            )
        left, top = (round(max(float(value), 0.0), 2) for value in (x, y))
        right, bottom = round(min(float(x + w), width), 2), round(min(float(y + h), height), 2)
        if right > left and bottom > top:
            box = (left, top, round(right - left, 2), round(bottom - top, 2))
            drafts.append((name, box, round(float(score), 4)))
    return drafts
