"""The answers of people on their way in: a returned file goes into the record of the batch, and disputes are settled.

A query goes out by export.py. Between the two nothing runs: training has ended with exit code 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import ConfigError, DataError, LedgerError
from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY, TileLabels
from ..core.ledger import Ledger
from ..core.rounds import next_round
from ..exchange.batch import DISPUTED, PENDING, Request
from ..exchange.registry import read_sheets
from ..exchange.sheet import Sheet
from ..exchange.words import ACCEPT
from .answers import Answer, Answers, Choice
from .coco_return import read_coco
from .returned import Returned, few, legible


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do (dry_run). Tuples of image keys, in the suggested order."""

    file: str
    round_index: str | int
    annotator: str
    labelled: tuple[str, ...]
    reviewed_empty: tuple[str, ...]
    rejected: tuple[str, ...]
    pending_keys: tuple[str, ...]  # without any answer after this import
    changed: tuple[str, ...]  # had another answer of the same annotator before
    agreed: tuple[str, ...] = ()  # now have answers of several annotators that agree
    disputes: Mapping[str, str] = field(default_factory=dict)  # open tiles: who disagrees on what
    chosen: tuple[str, ...] = ()  # disputes that this import settled
    boxes: Mapping[str, int] = field(default_factory=dict)  # imported boxes of each class
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether every tile of the batch now has an answer that counts."""
        return not self.pending_keys and not self.disputes

    def __str__(self) -> str:
        verb = "would import" if self.dry_run else "imported"
        lines = [
            f"{self.file}: {verb} {len(self.labelled)} labelled, {len(self.reviewed_empty)} empty and "
            f"{len(self.rejected)} rejected tiles of {self.annotator} into round {self.round_index}"
        ]
        if self.boxes:
            lines.append("  boxes: " + ", ".join(f"{name} {count}" for name, count in self.boxes.items()))
        if self.changed:
            lines.append(
                f"  {len(self.changed)} of them had another answer of {self.annotator} before, which stays in the "
                f"record: {few(self.changed)}; if two people labelled them, import each with --annotator NAME"
            )
        if self.agreed:
            lines.append(
                f"  {len(self.agreed)} tiles have answers of several people that agree: the first counts"
            )
        if self.chosen:
            lines.append(f"  {len(self.chosen)} tiles in dispute were settled: {few(self.chosen)}")
        lines += [f"  note: {legible(note)}" for note in self.notes[:10]]
        if len(self.notes) > 10:
            lines.append(f"  and {len(self.notes) - 10} more notes of this kind")
        if self.pending_keys:
            lines.append(f"  {len(self.pending_keys)} tiles are still awaited: {few(self.pending_keys)}")
        lines += describe_disputes(self.disputes)
        if self.complete:
            lines.append("  all tiles of the batch are in")
        return "\n".join(lines)


def describe_disputes(disputes: Mapping[str, str], *, most: int = 10) -> list[str]:
    """Lines about the tiles that annotators disagree on, and how to settle them; none without any."""
    if not disputes:
        return []
    lines = [f"  {len(disputes)} tiles stay open, for annotators disagree on them:"]
    lines += [f"    {tile}: {words}" for tile, words in list(disputes.items())[:most]]
    if len(disputes) > most:
        lines.append(f"    and {len(disputes) - most} more")
    return [*lines, "  say whose answers count: `osal run prefer RUN NAME`, or NAME and some tiles"]


def open_request(run_folder: str | Path) -> tuple[Ledger, Path, Request]:
    """The run, the folder of its open question, and the question. Raises LedgerError if no batch is open."""
    ledger = Ledger.open(run_folder)
    last = ledger.last_committed
    query = ledger.round_dir(next_round(last)) / "query"
    request = Request.read(query)
    if request is None:
        done = "" if last is None else f"; round {last} is committed, and its labels never change"
        raise LedgerError(f"{run_folder}: no batch is waiting for labels{done}. Go on with --resume")
    return ledger, query, request


def import_batch(
    run_folder: str | Path,
    file: str | Path,
    *,
    treat_missing_as: str = PENDING,
    treat_empty_as: str = PENDING,
    treat_skipped_as: str = PENDING,
    opened: Collection[str] | str | None = None,
    map_class: Mapping[str, str] | None = None,
    map_annotator: Mapping[str, str] | None = None,
    skip_other_tiles: bool = False,
    accept: Collection[str] = (),
    annotator: str | None = None,
    format: str | None = None,
    prefer: str | None = None,
    dry_run: bool = False,
) -> ImportReport:
    """Take the answers in `file`, of any format of exchange/registry.py, into the run's open batch; hold its lock.

    Answers add up over imports, until the round is committed: a later one corrects an earlier one of the same
    annotator, and stands beside those of others (answers.py says which counts). When every tile has one that counts,
    rounds/NNN/labels.json is written and training can go on.
    treat_missing_as: "pending", "empty" or "rejected", for tiles that neither this nor an earlier file names.
    treat_skipped_as: "pending" or "rejected", for tiles that an annotator skipped (Label Studio). annotator: whose file
    it is, "human" if neither this nor the file says it; map_annotator: {name in the file: name}. format: as it is
    called in the registry; told by the content if None.
    prefer: the annotator whose answers count wherever annotators disagree now.
    The rest: `coco_return.read_coco`. Raises DataError listing all problems of the file, LedgerError if no
    batch is open, ConfigError for arguments that do not go together; nothing is written then.
    """
    _check_options(treat_missing_as, treat_empty_as, treat_skipped_as, opened, accept, annotator)
    ledger, query, request = open_request(run_folder)
    sheets = read_sheets(file, request, format)
    people = _annotators(sheets, annotator, map_annotator or {}, file)
    for sheet in sheets:
        if sheet.batch not in (None, request.batch):
            raise DataError(
                f"{file}: answers another batch (round {sheet.round_index}, of this run or another), but this run "
                f"waits for round {request.round_index}; import the file made from {query / 'batch.json'}"
            )
    whole = Returned()
    answers: dict[tuple[str, str], TileLabels] = {}
    seconds: dict[tuple[str, str], float | None] = {}
    for sheet, name in zip(sheets, people):
        _settle_skipped(sheet, treat_skipped_as)
        returned = read_coco(
            sheet.as_coco(),
            request,
            pool=frozenset(ledger.header["pool"]),
            map_class=map_class,
            skip_other_tiles=skip_other_tiles,
            treat_empty_as=treat_empty_as,
            opened=opened,
            accept=accept,
            annotator=name,
        )
        who = f"{name}: " if len(sheets) > 1 else ""
        whole.problems += [f"{who}{problem}" for problem in (*sheet.problems, *returned.problems)]
        whole.notes += [f"{who}{note}" for note in (*sheet.notes, *returned.notes)]
        whole.present |= returned.present | {key: key for key in sheet.untouched if key in request.tiles}
        answers |= {(key, name): labels for key, labels in returned.answers.items()}
        spent = {page.name: page.seconds for page in sheet.pages}
        seconds |= {(key, name): spent.get(page) for key, page in returned.present.items()}
    if whole.problems:
        shown = [f"\n  - {legible(problem)}" for problem in whole.problems[:20]]
        more = len(whole.problems) - len(shown)
        raise DataError(
            f"{file}: nothing was imported, {len(whole.problems)} problem(s) to correct:"
            + "".join(shown)
            + (f"\n  - and {more} more" if more else "")
        )
    if not answers:
        how = ': set "review" in the entries under "images"' if sheets[0].coco is not None else ""
        whole.notes.append(f"no tile is reviewed in this file{how}")
    before = Answers.read(query, request.batch)
    if treat_missing_as != PENDING:
        state = REVIEWED_EMPTY if treat_missing_as == "empty" else REJECTED
        missing = [k for k in request.tiles if k not in whole.present and not before.of(k)]
        answers.update(((key, people[0]), TileLabels(state, annotator=people[0])) for key in missing)
    place = {key: index for index, key in enumerate(request.tiles)}
    ordered = sorted(answers, key=lambda pair: place[pair[0]])
    new = [Answer(pair[0], answers[pair], Path(file).name, seconds.get(pair)) for pair in ordered]
    after = before.and_then(new)
    choices = [] if prefer is None else _choices(after, request, prefer)
    after = after.and_then(choices)
    counts = {n: sum(t.classes.count(n) for t in answers.values()) for n in request.classes}
    states = {key: after.state(key) for key in request.tiles}
    tiles = list(dict.fromkeys(key for key, _ in ordered))

    def answered(state: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for key, who in ordered if answers[key, who].state == state))

    report = ImportReport(
        file=str(file),
        round_index=request.round_index,
        annotator=" and ".join(people),
        labelled=answered(LABELLED),
        reviewed_empty=answered(REVIEWED_EMPTY),
        rejected=answered(REJECTED),
        pending_keys=tuple(key for key in request.tiles if states[key] == PENDING),
        changed=tuple(k for k, who in ordered if before.of(k).get(who) not in (None, answers[k, who])),
        agreed=tuple(k for k in tiles if len(after.of(k)) > 1 and after.agreed(k)),
        disputes={key: after.dispute(key) for key in request.tiles if states[key] == DISPUTED},
        chosen=tuple(choice.tile for choice in choices),
        boxes={name: count for name, count in counts.items() if count},
        notes=tuple(whole.notes),
        dry_run=dry_run,
    )
    if not dry_run:
        after.write(query, request)
    return report


def prefer_annotator(run_folder: str | Path, annotator: str, tiles: Sequence[str] = ()) -> list[str]:
    """From now on `annotator`'s answer counts for `tiles`, or for all that are in dispute; returns these keys.

    Hold the run's lock. Raises LedgerError if no batch is open; DataError for a tile without an answer of hers, and
    nothing is written then.
    """
    _, query, request = open_request(run_folder)
    answers = Answers.read(query, request.batch)
    for tile in tiles:
        if annotator not in answers.of(tile):
            known = ", ".join(answers.of(tile)) or "nobody"
            where = "has no answer of" if tile in request.tiles else "is not of the open batch; no answer of"
            raise DataError(f"tile {tile} {where} {annotator}; answered by: {known}")
    choices = [Choice(t, annotator) for t in tiles] if tiles else _choices(answers, request, annotator)
    answers.and_then(choices).write(query, request)
    return [choice.tile for choice in choices]


def _choices(answers: Answers, request: Request, annotator: str) -> list[Choice]:
    """The decisions for `annotator` in all disputes that she takes part in."""
    known = sorted({name for key in request.tiles for name in answers.of(key)})
    if annotator not in known:
        raise ConfigError(
            f"there is no answer of {annotator!r} in this batch; annotators so far: {', '.join(known) or 'none'}"
        )
    keys = (k for k in request.tiles if answers.disputed(k) and annotator in answers.of(k))
    return [Choice(key, annotator) for key in keys]


def _annotators(
    sheets: list[Sheet], annotator: str | None, names: Mapping[str, str], file: str | Path
) -> list[str]:
    """The name of each sheet's annotator. Raises ConfigError where that leaves a doubt."""
    found = [sheet.annotator for sheet in sheets if sheet.annotator is not None]
    if strange := sorted(set(names) - set(found)):
        raise ConfigError(
            f"--map-annotator from {strange[0]!r}: {file} has answers of {', '.join(found) or 'nobody by name'}"
        )
    if annotator is not None and len(sheets) > 1:
        raise ConfigError(
            f"--annotator {annotator}: {file} has answers of {', '.join(found)}; leave it out, or say who they are "
            f"with --map-annotator '{found[0]}={annotator}'"
        )
    people = [names.get(sheet.annotator or "", annotator or sheet.annotator or "human") for sheet in sheets]
    if len(set(people)) < len(sheets):
        raise ConfigError(
            f"{file}: two people of the file would have one name; map each to a name of her own"
        )
    return people


def _settle_skipped(sheet: Sheet, treat_skipped_as: str) -> None:
    """What was skipped becomes rejected, or is left as if nobody had opened it."""
    skipped = [page for page in sheet.pages if page.review == "skipped"]
    if treat_skipped_as == REJECTED:
        for page in skipped:
            page.review = REJECTED
    elif skipped:
        sheet.pages = [page for page in sheet.pages if page.review != "skipped"]
        sheet.untouched += [page.name for page in skipped]
        sheet.notes.append(
            f"{len(skipped)} tiles were skipped and stay pending: {few([p.name for p in skipped])}; if that says that "
            "they are not usable, say --treat-skipped-as rejected"
        )


def _check_options(
    treat_missing_as: str,
    treat_empty_as: str,
    treat_skipped_as: str,
    opened: Collection[str] | None,
    accept: Collection[str],
    annotator: str | None,
) -> None:
    if treat_skipped_as not in (PENDING, REJECTED):
        raise ConfigError("treat_skipped_as is pending or rejected")
    if treat_missing_as not in (PENDING, "empty", REJECTED) or treat_empty_as not in (PENDING, "empty"):
        raise ConfigError("treat_missing_as: pending, empty or rejected; treat_empty_as: pending or empty")
    if strange := sorted(set(accept) - ACCEPT.keys()):
        raise ConfigError(f"accept: {strange[0]!r} is none of {', '.join(ACCEPT)}")
    if opened is not None and treat_empty_as == PENDING and "unchanged" not in accept:
        raise ConfigError(
            "--opened goes with --treat-empty-as empty or --accept-unchanged; add what is meant"
        )
    if annotator is not None and not annotator.strip():
        raise ConfigError("the annotator needs a name, e.g. --annotator anna")
