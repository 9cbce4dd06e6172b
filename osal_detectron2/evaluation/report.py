"""The report of a run, rebuilt at any time from its files alone."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..core.annotation_cost import AnnotationCost
from ..core.extension import folder_of
from ..core.ledger import Ledger
from ..core.store import read_json, write_bytes, write_json
from .curves import draw_curves
from .learning_curve import SUMMARY, aulc, read_costs, read_curve, write_csv
from .open_set_check import run_warning
from .table import WIDTH, format_table, gain, legend

Rows = Sequence[Mapping]


def write_report(run_folder: str | Path, costs: AnnotationCost | None = None, *, curves: bool = True) -> dict:
    """Write curve.csv, curves.png and summary.json into a run's folder; return the summary.

    costs: what annotation takes, kept in summary.json; None: as before. curves: draw curves.png, too. A function of the
    committed files: running it again gives the same bytes. Before the first round there is only a summary. Raises
    DataError or LedgerError for a damaged run, OutputError where the disk refuses.
    """
    run_folder = Path(run_folder)
    costs = costs or read_costs(run_folder)
    rows = read_curve(run_folder, costs)
    header = Ledger.open(run_folder).header
    summary = summarize(header, rows) | {"annotation_seconds": asdict(costs)}
    if rows:
        write_csv(rows, run_folder / "curve.csv")
        if curves:
            unit = (header.get("budget") or {}).get("unit", "tiles")
            write_bytes(run_folder / "curves.png", draw_curves({summary["strategy"]: [rows]}, unit=unit))
    write_json(run_folder / SUMMARY, summary)
    return summary


def describe_run(run_folder: str | Path) -> str:
    """The table of a run with its legend, what was gained, what is wrong, and the commands that come next, as text."""
    folder = Path(run_folder)
    header, rows = Ledger.open(folder).header, read_curve(folder)
    lines = [format_table(rows, header["known_classes"]), "", legend(read_costs(folder)), ""]
    lines += textwrap.wrap(gain(rows), WIDTH)
    if warning := run_warning(folder, (row["round"] for row in rows)):
        lines += ["", *textwrap.wrap(f"WARNING, {warning}", WIDTH)]
    lines.append("")
    for title, pattern in (
        ("page", "report.html"),
        ("curves", "curves.png"),
        ("queried tiles", "rounds/*/gallery.png"),
    ):
        lines += [f"{title:14s} {path}" for path in sorted(folder.glob(pattern))]
    selection = folder_of(folder, 0) / "selection.json"
    if selection.is_file() and (asked := read_json(selection)["selected"]):
        lines.append(f"{'why a tile':14s} osal run why {folder} {shlex.quote(asked[0])}")
    if (folder / "model_final.pth").is_file():
        lines.append(f"{'use it':14s} osal predict {folder} --images FOLDER --out predictions")
    return "\n".join(lines)


def summarize(header: Mapping, rows: Rows) -> dict:
    """The figures of a whole run; AULC is in units of mAP50 (0-100), None where nothing was evaluated.

    The first of them is the mean mAP50 along the time that annotation took, and aulc_seconds from where to where.
    """
    evaluated = [row for row in rows if row["mAP50"] is not None]
    queried = [row for row in rows if row["cumulative_known"] is not None]
    known, unknown = (queried[-1][f"cumulative_{kind}"] if queried else 0 for kind in ("known", "unknown"))
    scored, last = evaluated[-1] if evaluated else {}, rows[-1] if rows else {}
    fractions = [row["labelled_fraction"] for row in evaluated]
    minutes = [row["minutes_annotated"] for row in evaluated]
    return {
        "schema": "osal-summary/1",
        "aulc_mAP50_over_seconds": aulc(rows, x="minutes_annotated"),
        "aulc_seconds": [60 * min(minutes), 60 * max(minutes)] if minutes else None,
        "strategy": header["strategy"],
        "seed": header["seed"],
        "known_classes": header["known_classes"],
        "rounds_evaluated": len(evaluated),
        "aulc_mAP50": aulc(rows),
        "aulc_mAP50_over_nuclei": aulc(rows, x="nuclei_annotated"),
        "aulc_mAP50_over_minutes": aulc(rows, x="minutes_annotated"),
        "aulc_labelled_fraction": [min(fractions), max(fractions)] if fractions else None,
        "final_mAP50": scored.get("mAP50"),
        "final_A-OSE": scored.get("A-OSE"),
        "final_labelled_tiles": last.get("labelled_tiles"),
        "final_nuclei_annotated": last.get("nuclei_annotated"),
        "final_minutes_annotated": last.get("minutes_annotated"),
        "known_queried": known,
        "unknown_queried": unknown,
        "purity": known / (known + unknown) if known + unknown else None,
        "recall": queried[-1]["recall"] if queried else None,
    }
