"""The human oracle: a query goes out as a COCO file, and comes back through `tools/al.py import`.

Between the two nothing runs: training has ended with exit code 0. docs/human_oracle.md is for the people.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..core.errors import ConfigError, DataError, LedgerError
from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY, TileLabels
from ..core.ledger import Ledger
from ..core.rounds import next_round
from ..core.store import atomic_path, read_json, sha256_bytes, sha256_file, write_bytes, write_json
from .batch import (
    PENDING,
    BatchStatus,
    Request,
    RequestedTile,
    batch_status,
    read_imported,
    status_of,
    write_imported,
)
from .returned import read_returned

__all__ = ["BatchStatus", "ImportReport", "batch_status", "export_batch", "import_batch"]

_README = """\
{tiles} tiles wait for your labels (round {round} of the run {run}).

Please mark every nucleus with a box and give it one of these classes:
    {classes}

1. Take the tiles from the top of images.txt: the most useful come first.
2. Open batch.json (COCO) in your annotation tool. It holds the model's boxes as a first draft: correct them,
   delete the wrong ones, add what is missing. A draft that nobody looked at does not count as a label.
3. For each tile, set "review" in its entry under "images":
       "done"       every nucleus is marked
       "empty"      there is no nucleus (no box may be left)
       "rejected"   not usable: out of focus, folded, no tissue
       "pending"    not looked at yet (how it is sent out)
   If your tool drops "review", every tile with changed boxes counts as done; see docs/human_oracle.md.
4. Hand the file back, all tiles or some, as often as you like:
       python tools/al.py import {run} YOUR_FILE --dry-run     (look first)
       python tools/al.py import {run} YOUR_FILE
5. When all tiles are in, go on training with --resume; `python tools/al.py status {run}` prints the command.

Keep the file names and do not resize the images. Estimated work: {hours:.1f} hours.
"""


def export_batch(
    folder: str | Path,
    *,
    round: str | int,
    keys: Sequence[str],
    images: Mapping[str, Mapping],
    classes: Sequence[str],
    predictions: Mapping[str, Mapping],
    tile_scores: Mapping[str, Mapping[str, float]],
    reasons: Mapping[str, str],
    seconds_per_nucleus: float,
    seconds_per_tile: float,
    copy_images: bool = False,
) -> BatchStatus:
    """Put the question of `round` into `folder`/rounds/NNN/query (`folder` is the run's OUTPUT_DIR).

    keys: in the suggested order. images: records with "file_name", "width", "height". classes: all class
    names. predictions: pre-annotations {"boxes": (n, 4) xywh pixels, "classes": n names, "scores": n}; a
    tile may lack them. copy_images: put the images into query/images too.
    Put again, the same question leaves people's files alone (and writes labels.json if all answers are in).
    Raises LedgerError if `folder` is no run or has answers to another question; DataError; OutputError.
    """
    query = Ledger.open(folder).round_dir(round) / "query"
    header = sha256_file(Path(folder) / "run.json")
    batch = sha256_bytes(json.dumps([header, round, list(keys)]).encode())[:16]
    present = Request.read(query)
    if present is not None and present.batch == batch and (query / "batch.json").is_file():
        answers = read_imported(query, batch)
        if len(answers) == len(present.tiles) and not (query.parent / "labels.json").is_file():
            write_imported(query, present, answers)
        return status_of(query, present)
    read_imported(query, batch)  # refuses to bury answers to another question

    ids = {name: index for index, name in enumerate(classes, start=1)}
    tiles, coco_images, annotations = {}, [], []
    for rank, key in enumerate(keys, start=1):
        width, height = int(images[key]["width"]), int(images[key]["height"])
        drafts = _drafts(key, predictions.get(key, {}), width, height, ids)
        tiles[key] = RequestedTile(width, height, tuple((name, *box) for name, box, _ in drafts))
        scores = {n: float(v) if math.isfinite(v) else None for n, v in tile_scores.get(key, {}).items()}
        coco_images.append(
            {
                "id": rank,
                "file_name": key,
                "width": width,
                "height": height,
                "rank": rank,
                "scores": scores,
                "reason": reasons.get(key, ""),
                "review": PENDING,
            }
        )
        for name, box, score in drafts:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": rank,
                    "category_id": ids[name],
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    hours = (seconds_per_tile * len(tiles) + seconds_per_nucleus * len(annotations)) / 3600
    request = Request(batch=batch, round=round, classes=tuple(classes), tiles=tiles, hours=hours)
    info = {"description": "Tiles to annotate; see README.txt", "osal_batch": batch, "osal_round": round}
    categories = [{"id": index, "name": name} for name, index in ids.items()]
    for key in keys if copy_images else ():
        _copy_image(Path(images[key]["file_name"]), query / "images", key)
    write_bytes(query / "images.txt", "".join(f"{images[key]['file_name']}\n" for key in keys).encode())
    fields = {
        "tiles": len(tiles),
        "round": round,
        "run": shlex.quote(str(folder)),
        "classes": ", ".join(classes),
        "hours": hours,
    }
    write_bytes(query / "README.txt", _README.format(**fields).encode())
    write_json(
        query / "batch.json",
        {"info": info, "images": coco_images, "annotations": annotations, "categories": categories},
    )
    request.write(query)  # last: with it, the question stands
    return status_of(query, request)


def _drafts(key: str, prediction: Mapping, width: int, height: int, ids: Mapping[str, int]) -> list[tuple]:
    """(class name, (x, y, w, h), score) of each pre-annotation, cut at the tile, 2 decimals."""
    drafts = []
    columns = (prediction.get(name, ()) for name in ("boxes", "classes", "scores"))
    for (x, y, w, h), name, score in zip(*columns):
        if name not in ids:
            raise DataError(
                f"tile {key}: a prediction has class {name!r}, which is not among {', '.join(ids)}"
            )
        left, top = (round(max(float(value), 0.0), 2) for value in (x, y))
        right, bottom = round(min(float(x + w), width), 2), round(min(float(y + h), height), 2)
        if right > left and bottom > top:
            box = (left, top, round(right - left, 2), round(bottom - top, 2))
            drafts.append((name, box, round(float(score), 4)))
    return drafts


def _copy_image(source: Path, images: Path, key: str) -> None:
    """Copy one tile to query/images/<key>. A copy, no link: an edit must not reach the data set."""
    parts = PurePosixPath(key).parts
    if ".." in parts or os.path.isabs(key):
        raise DataError(
            f"tile {key}: cannot be copied, its name leads out of the folder; export without copies"
        )
    try:
        with atomic_path(images.joinpath(*parts)) as temporary:
            shutil.copyfile(source, temporary)
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such image; check the image root") from error


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do (dry_run). Tuples of image keys, in the suggested order."""

    file: str
    round: str | int
    labelled: tuple[str, ...]
    reviewed_empty: tuple[str, ...]
    rejected: tuple[str, ...]
    pending_keys: tuple[str, ...]  # still awaited after this import
    changed: tuple[str, ...]  # had another answer before
    boxes: Mapping[str, int] = field(default_factory=dict)  # imported boxes of each class
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether every tile of the batch now has an answer."""
        return not self.pending_keys

    def __str__(self) -> str:
        verb = "would import" if self.dry_run else "imported"
        lines = [
            f"{self.file}: {verb} {len(self.labelled)} labelled, {len(self.reviewed_empty)} empty and "
            f"{len(self.rejected)} rejected tiles into round {self.round}"
        ]
        if self.boxes:
            lines.append("  boxes: " + ", ".join(f"{name} {count}" for name, count in self.boxes.items()))
        if self.changed:
            lines.append(f"  {len(self.changed)} of them had another answer before: {_few(self.changed)}")
        lines += [f"  note: {note}" for note in self.notes[:10]]
        if len(self.notes) > 10:
            lines.append(f"  and {len(self.notes) - 10} more notes of this kind")
        waiting = f"{len(self.pending_keys)} tiles are still awaited: {_few(self.pending_keys)}"
        lines.append("  all tiles of the batch are in" if self.complete else f"  {waiting}")
        return "\n".join(lines)


def import_batch(
    run_folder: str | Path,
    file: str | Path,
    *,
    treat_missing_as: str = PENDING,
    treat_empty_as: str = PENDING,
    map_class: Mapping[str, str] | None = None,
    accept_unchanged: bool = False,
    annotator: str = "human",
    dry_run: bool = False,
) -> ImportReport:
    """Take the answers in `file` (COCO) into the open batch of the run; hold the run's lock meanwhile.

    Answers add up over imports; a later one corrects an earlier one until the round is committed. When all
    tiles have one, rounds/NNN/labels.json is written and training can go on.
    treat_missing_as: "pending", "empty" or "rejected", for tiles that neither this nor an earlier file names.
    The rest: `returned.read_returned`. Raises DataError listing all problems of the file, LedgerError if no
    batch is open; nothing is written then.
    """
    if treat_missing_as not in (PENDING, "empty", REJECTED) or treat_empty_as not in (PENDING, "empty"):
        raise ConfigError(
            "treat_missing_as is pending, empty or rejected; treat_empty_as is pending or empty"
        )
    ledger = Ledger.open(run_folder)
    last = ledger.last_committed
    query = ledger.round_dir(next_round(last)) / "query"
    request = Request.read(query)
    if request is None:
        done = "" if last is None else f"; round {last} is committed, and its labels never change"
        raise LedgerError(f"{run_folder}: no batch is waiting for labels{done}. Go on with --resume")
    content = read_json(file)
    info = content.get("info") if isinstance(content, dict) else None
    origin = info.get("osal_batch") if isinstance(info, dict) else None
    if origin not in (None, request.batch):
        raise DataError(
            f"{file}: answers another batch (round {info.get('osal_round')}, of this run or another), but "
            f"this run waits for round {request.round}; import the file made from {query / 'batch.json'}"
        )
    returned = read_returned(
        content,
        request,
        pool=frozenset(ledger.header["pool"]),
        map_class=map_class,
        treat_empty_as=treat_empty_as,
        accept_unchanged=accept_unchanged,
        annotator=annotator,
    )
    if returned.problems:
        shown = [f"\n  - {problem}" for problem in returned.problems[:20]]
        more = len(returned.problems) - len(shown)
        raise DataError(
            f"{file}: nothing was imported, {len(returned.problems)} problem(s) to correct:"
            + "".join(shown)
            + (f"\n  - and {more} more" if more else "")
        )
    if not returned.answers:
        returned.notes.append('no tile is reviewed in this file: set "review" in the entries under "images"')
    before = read_imported(query, request.batch)
    answers = dict(returned.answers)
    if treat_missing_as != PENDING:
        state = REVIEWED_EMPTY if treat_missing_as == "empty" else REJECTED
        missing = request.tiles.keys() - set(returned.present) - before.keys()
        answers.update((key, TileLabels(state, annotator=annotator)) for key in missing)
    after = {**before, **answers}
    ordered = [key for key in request.tiles if key in answers]
    counts = {n: sum(t.classes.count(n) for t in answers.values()) for n in request.classes}
    report = ImportReport(
        file=str(file),
        round=request.round,
        labelled=tuple(key for key in ordered if answers[key].state == LABELLED),
        reviewed_empty=tuple(key for key in ordered if answers[key].state == REVIEWED_EMPTY),
        rejected=tuple(key for key in ordered if answers[key].state == REJECTED),
        pending_keys=tuple(key for key in request.tiles if key not in after),
        changed=tuple(key for key in ordered if key in before and before[key] != answers[key]),
        boxes={name: count for name, count in counts.items() if count},
        notes=tuple(returned.notes),
        dry_run=dry_run,
    )
    if not dry_run:
        write_imported(query, request, after)
    return report


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
