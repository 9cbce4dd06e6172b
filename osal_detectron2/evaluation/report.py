"""Reports of one run and comparisons of several, rebuilt at any time from the files of the runs alone."""

from __future__ import annotations

import io
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.errors import DataError
from ..core.store import read_json, write_bytes, write_json
from .learning_curve import aulc, read_curve, read_header, write_csv

# Okabe and Ito's colours tell apart with any colour vision; line styles and markers do so in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Rows = Sequence[Mapping]

_TABLE = (
    ("round", "round", "d"),
    ("labelled tiles", "labelled_tiles", "d"),
    ("known queried", "known_queried", "d"),
    ("unknown queried", "unknown_queried", "d"),
    ("purity", "purity", ".3f"),
    ("mAP50", "mAP50", ".2f"),
)


def write_report(run_folder: str | Path) -> dict:
    """Write curve.csv, curves.png and summary.json into a run's folder; return the summary.

    A function of the committed files: running it again gives the same bytes. Before the first round there is
    only a summary. Raises DataError or LedgerError for a damaged run, OutputError where the disk refuses.
    """
    run_folder = Path(run_folder)
    rows = read_curve(run_folder)
    summary = summarise(read_header(run_folder), rows)
    if rows:
        write_csv(rows, run_folder / "curve.csv")
        write_bytes(run_folder / "curves.png", draw_curves({summary["strategy"]: [rows]}))
    write_json(run_folder / "summary.json", summary)
    return summary


def describe_run(run_folder: str | Path) -> str:
    """The table of a run, the paths of its curves and galleries, and the commands that come next, as text."""
    folder = Path(run_folder)
    legend = (
        "purity: known nuclei / all nuclei of the query. mAP50: known classes on the test tiles, in percent."
    )
    lines = [format_table(read_curve(folder)), "", legend, ""]
    for title, pattern in (("curves", "curves.png"), ("queried tiles", "rounds/*/gallery.png")):
        lines += [f"{title:14s} {path}" for path in sorted(folder.glob(pattern))]
    selection = folder / "rounds" / "000" / "selection.json"
    if selection.is_file() and (asked := read_json(selection)["selected"]):
        lines.append(f"{'why a tile':14s} python tools/al.py why {folder} {shlex.quote(asked[0])}")
    if (folder / "model_final.pth").is_file():
        lines.append(f"{'use it':14s} python tools/predict.py {folder} --images FOLDER --out predictions")
    return "\n".join(lines)


def summarise(header: Mapping, rows: Rows) -> dict:
    """The figures of a whole run; AULC is in units of mAP50 (0-100), None where nothing was evaluated."""
    evaluated = [row for row in rows if row["mAP50"] is not None]
    queried = [row for row in rows if row["cumulative_known"] is not None]
    known, unknown = (queried[-1][f"cumulative_{kind}"] if queried else 0 for kind in ("known", "unknown"))
    last = evaluated[-1] if evaluated else {}
    fractions = [row["labelled_fraction"] for row in evaluated]
    return {
        "schema": "osal-summary/1",
        "strategy": header["strategy"],
        "seed": header["seed"],
        "known_classes": header["known_classes"],
        "rounds_evaluated": len(evaluated),
        "aulc_mAP50": aulc(rows),
        "aulc_mAP50_over_nuclei": aulc(rows, x="nuclei_annotated"),
        "aulc_labelled_fraction": [min(fractions), max(fractions)] if fractions else None,
        "final_mAP50": last.get("mAP50"),
        "final_A-OSE": last.get("A-OSE"),
        "final_labelled_tiles": last.get("labelled_tiles"),
        "final_nuclei_annotated": last.get("nuclei_annotated"),
        "known_queried": known,
        "unknown_queried": unknown,
        "purity": known / (known + unknown) if known + unknown else None,
        "recall": queried[-1]["recall"] if queried else None,
    }


def format_table(rows: Rows) -> str:
    """The table printed at the end of a run: what each round queried and how its detector scored."""
    body = [[_cell(row.get(column), form) for _, column, form in _TABLE] for row in rows]
    return _layout([title for title, _, _ in _TABLE], body)


def compare_runs(run_folders: Sequence[str | Path], output: str | Path) -> str:
    """Overlay several runs: comparison.png and comparison.csv in `output`; returns the table that is printed.

    Runs are grouped by strategy; a group is shown as mean and sample standard deviation over its runs (seeds,
    folds), at the same round. Raises DataError if the runs do not detect the same known classes: their mAP
    are different quantities. Other differences are said below the table.
    """
    runs = [(Path(folder), read_header(folder), read_curve(folder)) for folder in run_folders]
    _check_comparable([(folder, header) for folder, header, _ in runs])
    groups: dict[str, list[Rows]] = {}
    for _, header, rows in runs:
        groups.setdefault(header["strategy"], []).append(rows)
    groups = dict(sorted(groups.items()))

    lines = [_group_line(strategy, curves) for strategy, curves in groups.items()]
    write_csv(lines, Path(output) / "comparison.csv")
    write_bytes(Path(output) / "comparison.png", draw_curves(groups))
    titles = ["strategy", "runs", "AULC mAP50", "final mAP50", "known queried", "unknown queried", "purity"]
    keys = ("aulc_mAP50", "final_mAP50", "known_queried", "unknown_queried", "purity")
    forms = (".2f", ".2f", ".0f", ".0f", ".3f")
    body = [
        [line["strategy"], str(line["runs"])]
        + [_spread_cell(line[key], line[f"{key}_sd"], form) for key, form in zip(keys, forms)]
        for line in lines
    ]
    return "\n".join([_layout(titles, body), *_differences(runs)])


def draw_curves(groups: Mapping[str, Sequence[Rows]]) -> bytes:
    """A PNG of three panels: mAP50, cumulative nuclei queried and purity against the labelled fraction.

    groups: strategy -> the curves of its runs. One run is drawn as it is; several as their mean with a band
    of one standard deviation.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    detection, nuclei, purity = figure.subplots(1, 3)
    for index, (strategy, curves) in enumerate(groups.items()):
        style = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 5,
            "linewidth": 1.8,
        }
        line = LINES[index % len(LINES)]
        after = "labelled_fraction_after_query"
        _draw_group(detection, curves, "labelled_fraction", "mAP50", label=strategy, linestyle=line, **style)
        if len(groups) == 1:
            # One strategy leaves the line style free to tell known from unknown.
            other = style | {"color": COLOURS[1], "marker": MARKERS[1]}
            _draw_group(nuclei, curves, after, "cumulative_known", label="known", linestyle="-", **style)
            _draw_group(nuclei, curves, after, "cumulative_unknown", label="unknown", linestyle="--", **other)
        else:
            hollow = style | {"markerfacecolor": "white"}
            _draw_group(nuclei, curves, after, "cumulative_known", label=strategy, linestyle=line, **style)
            _draw_group(nuclei, curves, after, "cumulative_unknown", linestyle=line, **hollow)
        _draw_group(purity, curves, after, "purity", label=strategy, linestyle=line, **style)
    hint = "" if len(groups) == 1 else "\n(filled: known, hollow: unknown)"
    detection.set(title="detection on the test set", ylabel="mAP50, known classes (%)")
    nuclei.set(title="all queries so far" + hint, ylabel="nuclei queried, without the initial set")
    purity.set(title="each query", ylabel="purity = known / (known + unknown)")
    for axes in (detection, nuclei, purity):
        axes.set_xlabel("labelled training tiles (%)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0] and (len(groups) > 1 or axes is not purity):
            axes.legend(frameon=False)
        axes.set_ylim(bottom=0)
    purity.set_ylim(0, 1.03)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_group(axes, curves: Sequence[Rows], x: str, y: str, *, color: str, **style) -> None:
    points = _mean_curve(curves, x, y)
    if not points:
        return
    xs = [100 * point[0] for point in points]
    axes.plot(xs, [point[1] for point in points], color=color, **style)
    if any(point[2] for point in points):
        low, high = ([point[1] + sign * (point[2] or 0.0) for point in points] for sign in (-1, 1))
        axes.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)


def _mean_curve(curves: Sequence[Rows], x: str, y: str) -> list[tuple[float, float, float | None]]:
    """(mean x, mean y, standard deviation of y) at each round that every run of the group has reached."""
    tables = [
        {row["round"]: row for row in rows if row.get(x) is not None and row.get(y) is not None}
        for rows in curves
    ]
    shared = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    result = []
    for number in shared:
        values = [table[number][y] for table in tables]
        result.append((statistics.fmean(table[number][x] for table in tables), *_mean_and_spread(values)))
    return result


def _group_line(strategy: str, curves: Sequence[Rows]) -> dict:
    header = {"strategy": strategy, "seed": None, "known_classes": None}
    summaries = [summarise(header, rows) for rows in curves]
    line: dict = {"strategy": strategy, "runs": len(curves)}
    for key in ("aulc_mAP50", "aulc_mAP50_over_nuclei", "final_mAP50", "final_A-OSE", "known_queried"):
        line[key], line[f"{key}_sd"] = _mean_and_spread([summary[key] for summary in summaries])
    for key in ("unknown_queried", "purity", "recall"):
        line[key], line[f"{key}_sd"] = _mean_and_spread([summary[key] for summary in summaries])
    return line


def _mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; a spread of fewer than two values does not exist."""
    values = [value for value in values if value is not None]
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


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


def _cell(value, form: str) -> str:
    return "-" if value is None else format(value, form)


def _spread_cell(mean, spread, form: str) -> str:
    return _cell(mean, form) + (f" ± {format(spread, form)}" if spread is not None else "")


def _layout(titles: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Right-aligned columns, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(titles, *body)]
    lines = [titles, ["-" * width for width in widths], *body]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)
