"""The result of one cell: everything that tables and figures need, read from its run folder."""

from pathlib import Path

from ..core.labels import LabelFile
from ..core.ledger import Ledger
from ..core.round_files import read_timing
from ..core.rounds import round_name
from ..evaluation.learning_curve import aulc, query_counts, read_curve
from .grid import Cell

RESULT_SCHEMA = "osal-cell/1"


def progress(folder: Path) -> float:
    """The part of a run that is done, by rounds committed: 0 to 1."""
    folder = Path(folder)
    if not Ledger.exists(folder):
        return 0.0
    done = sum(1 for path in folder.glob("rounds/*/commit.json") if path.parent.name.isdecimal())
    return done / len(Ledger.open(folder).header["plan"])


def cell_result(folder: Path, cell: Cell, *, config_sha256: str, commit: str, hardware: dict) -> dict | None:
    """The content of a result file, or None where the run in `folder` is not complete.

    rounds: one entry a round. Of the detector of that round: labelled_tiles, labelled_fraction, nuclei_annotated,
    known_annotated and minutes_annotated (all that is paid for so far), mAP50, AP, per_class (AP50), aose,
    unknown_detected_fraction. Of the query after it: queried_tiles, known_queried, unknown_queried, purity and, over
    all queries so far, known_cumulative, unknown_cumulative, recall; None after the last round. seconds: {step: s};
    passes: forward passes of the query, where the run recorded them. aulc, final_mAP50: in percent. seconds of the
    whole: the sum over rounds and steps, without start-up and without what a kill made the run do twice.
    Raises DataError or LedgerError for a damaged run.
    """
    folder = Path(folder)
    if progress(folder) < 1:
        return None
    header, rows = Ledger.open(folder).header, read_curve(folder)
    known_classes = header["known_classes"]
    labels = LabelFile.read(folder / "rounds" / "init" / "labels.json")
    known = query_counts(labels.tiles, known_classes)["known"]
    rounds = []
    for row in rows:
        rounds.append(
            _round(row, known_classes) | {"known_annotated": known, **_passes(folder, row["round"])}
        )
        known += row["known_queried"] or 0
    return {
        "schema": RESULT_SCHEMA,
        "method": cell.method,
        "setting": cell.setting,
        "fold": cell.fold,
        "seed": cell.seed,
        "strategy": header["strategy"],
        "config_sha256": config_sha256,
        "dataset_sha256": header["dataset_sha256"],
        "commit": commit,
        "versions": header["versions"],
        "hardware": hardware,
        "seconds": round(sum(sum(entry["seconds"].values()) for entry in rounds), 3),
        "known_classes": known_classes,
        "unknown_classes": [name for name in labels.classes if name not in known_classes],
        "train_tiles": len(header["pool"]),
        "rounds": rounds,
        "aulc": aulc(rows),
        "final_mAP50": rows[-1]["mAP50"],
    }


def _round(row: dict, known_classes: list[str]) -> dict:
    names = dict(aose="A-OSE", known_cumulative="cumulative_known", unknown_cumulative="cumulative_unknown")
    same = (
        "round", "labelled_tiles", "labelled_fraction", "nuclei_annotated", "minutes_annotated", "mAP50", "AP",
        "unknown_detected_fraction",
        "queried_tiles", "known_queried", "unknown_queried", "purity", "recall", "labelled_fraction_after_query",
    )  # fmt: skip
    return {
        **{key: row[key] for key in same},
        **{key: row[column] for key, column in names.items()},
        "per_class": {name: row[f"AP50-{name}"] for name in known_classes},
        "seconds": {k.removeprefix("seconds_"): v for k, v in row.items() if k.startswith("seconds_")},
    }


def _passes(folder: Path, number: int) -> dict:
    passes = read_timing(folder / "rounds" / round_name(number)).get("passes")
    return {} if passes is None else {"passes": passes}
