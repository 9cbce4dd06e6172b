"""Several runs beside each other, from their files alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.annotation_cost import AnnotationCost
from ..core.errors import DataError
from ..core.ledger import Ledger
from ..core.store import write_bytes
from .curves import draw_curves
from .learning_curve import aulc, mean_and_spread, read_costs, read_curve, shared_range, write_csv
from .report import summarize
from .table import cell, layout

Rows = Sequence[Mapping]

# Title, key of the summary, format. All of them, and more, are columns of comparison.csv.
_TABLE = (
    ("AULC over\nminutes", "aulc_shared_minutes", ".2f"),
    ("AULC\nmAP50", "aulc_mAP50", ".2f"),
    ("final\nmAP50", "final_mAP50", ".2f"),
    ("A-OSE", "final_A-OSE", ".0f"),
    ("labelled\ntiles", "final_labelled_tiles", ",.0f"),
    ("nuclei\nannotated", "final_nuclei_annotated", ",.0f"),
    ("minutes of\nannotation", "final_minutes_annotated", ",.0f"),
    ("purity", "purity", ".2f"),
)
_MORE = ("aulc_mAP50_over_nuclei", "aulc_mAP50_over_minutes", "known_queried", "unknown_queried", "recall")


def compare_runs(
    run_folders: Sequence[str | Path],
    output: str | Path,
    costs: Mapping[str | Path, AnnotationCost] | None = None,
) -> str:
    """Overlay several runs: comparison.png and comparison.csv in `output`; returns the table that is printed.

    costs: what annotation takes, by folder; None: as each run says.

    Runs are grouped by strategy; a group is shown as mean and sample standard deviation over its runs (seeds,
    folds), at the same round. Raises DataError if the runs do not detect the same known classes: their mAP
    are different quantities. Other differences are said below the table.
    """
    costs = costs or {folder: read_costs(folder) for folder in run_folders}
    runs = [(Path(f), Ledger.open(f).header, read_curve(f, costs[f])) for f in run_folders]
    _check_comparable([(folder, header) for folder, header, _ in runs])
    groups: dict[str, list[Rows]] = {}
    for _, header, rows in runs:
        groups.setdefault(header["strategy"], []).append(rows)
    groups = dict(sorted(groups.items()))

    shared = shared_range([rows for _, _, rows in runs], "minutes_annotated")
    lines = [_group_line(strategy, curves, shared) for strategy, curves in groups.items()]
    write_csv(lines, Path(output) / "comparison.csv")
    write_bytes(Path(output) / "comparison.png", draw_curves(groups))
    notes = _differences(runs)
    if shared is not None:
        low, high = shared
        notes.insert(
            0, f"AULC over minutes: the mean mAP50 from {low:.1f} to {high:.1f} minutes, which all runs have"
        )
    if len(set(costs.values())) > 1:
        notes.append("note: the runs were told different seconds of annotation a tile or a nucleus")
    body = [
        [line["strategy"], str(line["runs"])]
        + [_spread_cell(line[key], line[f"{key}_sd"], form) for _, key, form in _TABLE]
        for line in lines
    ]
    return "\n".join([layout(["strategy", "runs", *(t for t, _, _ in _TABLE)], body), *notes])


def _group_line(strategy: str, curves: Sequence[Rows], shared: tuple[float, float] | None) -> dict:
    header = {"strategy": strategy, "seed": None, "known_classes": None}
    summaries = [summarize(header, rows) for rows in curves]
    for summary, rows in zip(summaries, curves):
        area = aulc(rows, x="minutes_annotated", within=shared) if shared else None
        summary["aulc_shared_minutes"] = area
    line: dict = {"strategy": strategy, "runs": len(curves)}
    for key in (*(key for _, key, _ in _TABLE), *_MORE):
        line[key], line[f"{key}_sd"] = mean_and_spread([summary[key] for summary in summaries])
    return line


def _check_comparable(runs: Sequence[tuple[Path, Mapping]]) -> None:
    if not runs:
        raise DataError("no runs to compare; give at least one OUTPUT_DIR")
    first_folder, first = runs[0]
    for folder, header in runs[1:]:
        if set(header["known_classes"]) != set(first["known_classes"]):
            raise DataError(
                f"{folder} detects {', '.join(header['known_classes'])}, but {first_folder} "
                f"{', '.join(first['known_classes'])}: their mAP cannot be compared; report them apart"
            )


def _differences(runs: Sequence[tuple[Path, Mapping, Rows]]) -> list[str]:
    """What a reader must know before believing the table."""
    notes = []
    for key, name in (("plan", "labelled tiles per round"), ("dataset_sha256", "data sets")):
        if len({str(header.get(key)) for _, header, _ in runs}) > 1:
            notes.append(f"note: the runs differ in their {name}")
    if len({tuple(row["round"] for row in rows if row["mAP50"] is not None) for _, _, rows in runs}) > 1:
        notes.append("note: the runs have not all reached the same round, so AULC covers different ranges")
    seen: dict[tuple, Path] = {}
    for folder, header, _ in runs:
        identity = (header["strategy"], header["seed"], str(header.get("dataset_sha256")))
        if identity in seen:
            notes.append(f"note: {folder} repeats strategy, seed and data of {seen[identity]}")
        seen.setdefault(identity, folder)
    return notes


def _spread_cell(mean, spread, form: str) -> str:
    return cell(mean, form) + (f" ± {format(spread, form)}" if spread is not None else "")
