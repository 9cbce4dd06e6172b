"""The table of the benchmark: means over folds and seeds, and each method against a reference, pair by pair."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.store import write_bytes, write_json
from ..evaluation.learning_curve import aulc, mean_and_spread, mean_curve, shared_range, write_csv
from ..evaluation.table import markdown_table
from .results import FULL, REFERENCES, CellResult, Value, by_method, by_setting, mixtures
from .styles import setting_title, styles_of

TABLE_SCHEMA = "osal-table/1"
ALL = "all settings"
_TIE = 1e-9  # percentage points: the same selection gives the same detector, so ties are exact
_WILCOXON_PAIRS = 6  # below it no result is significant at 5 %, however clear


@dataclass(frozen=True)
class Paired:
    """A method minus the reference over the cells that both have. Fields are None where n is too small.

    mean: mean difference. low, high: its 95 % confidence interval, paired t, from two pairs on. wins, losses: pairs
    in which the method is better, worse. p: Wilcoxon's signed-rank test, two-sided, from six pairs on.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    p: float | None


def compare_paired(values: Mapping, reference: Mapping) -> Paired:
    """Compare {pair: value} with {pair: value of the reference} on the pairs that have both values."""
    shared = sorted(p for p, v in values.items() if v is not None and reference.get(p) is not None)
    differences = [values[pair] - reference[pair] for pair in shared]
    n = len(differences)
    low = high = p = None
    mean = statistics.fmean(differences) if n else None
    if n > 1:
        from scipy import stats

        half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
        low, high = mean - half, mean + half
    ties = sum(abs(d) <= _TIE for d in differences)
    if n >= _WILCOXON_PAIRS:
        untied = [0.0 if abs(d) <= _TIE else d for d in differences]
        p = 1.0 if ties == n else float(stats.wilcoxon(untied).pvalue)
    wins = sum(d > _TIE for d in differences)
    return Paired(n, mean, low, high, wins, ties, n - wins - ties, p)


def fraction_reaching(cells: Sequence[CellResult], level: float) -> float | None:
    """Labelled fraction at which the mean curve of `cells` first reaches an mAP50 of `level`, linear between rounds.

    None if it never does.
    """
    before = None
    for x, y, _ in mean_curve([cell.rounds for cell in cells], "labelled_fraction", "mAP50"):
        if y >= level:
            if before is None:
                return x
            return before[0] + (x - before[0]) * (level - before[1]) / (y - before[1])
        before = x, y
    return None


def build_table(
    cells: Sequence[CellResult], *, reference: str = "osal_nd", target: float = 0.95
) -> list[dict]:
    """One row a setting and method, in the order of the figures.

    Keys: setting, method, label; cells, of cells_in_setting (the pairs of fold and seed that any method has);
    aulc_minutes, the mean mAP50 along the minutes of annotation that all curves of the setting cover; aulc,
    final_mAP50, purity, labelled_tiles, nuclei_annotated, minutes_annotated, passes and their sample standard
    deviations (..._sd); fraction_to_target, the labelled fraction that reaches target_mAP50 = `target` x the mean of
    full annotation; aulc_minutes_paired, aulc_paired and final_paired, `Paired` against `reference` as dicts, None for
    the reference itself and for methods that query nothing. More than one setting: further rows of the setting ALL with
    the paired columns over all settings.
    """
    rows = []
    shared: dict[str, tuple[float, float] | None] = {}
    order = styles_of({cell.method for cell in cells})
    for setting, inside in by_setting(cells).items():
        groups = by_method(inside)
        full = mean_and_spread([cell.final_mAP50 for cell in groups.get(FULL, ())])[0]
        level = None if full is None else target * full
        pairs = {cell.pair for cell in inside}
        curves = [cell.rounds for cell in inside if cell.method not in REFERENCES]
        shared[setting] = shared_range(curves, "minutes_annotated")
        for method in (m for m in order if m in groups):
            group = groups[method]
            row = {"setting": setting, "method": method, "label": order[method].label}
            row |= {"cells": len(group), "cells_in_setting": len(pairs)}
            for key, column in _columns(group, shared).items():
                row[key], row[f"{key}_sd"] = mean_and_spread(column)
            curve = level is not None and method not in REFERENCES
            row["target_mAP50"] = level
            row["fraction_to_target"] = fraction_reaching(group, level) if curve else None
            rows.append(row | _against(group, groups.get(reference, ()), shared))
    settings = by_setting(cells)
    if len(settings) > 1:
        groups = by_method(cells)
        for method in (m for m in order if m in groups):
            row = {"setting": ALL, "method": method, "label": order[method].label}
            row["cells"] = len(groups[method])
            rows.append(row | _against(groups[method], groups.get(reference, ()), shared))
    return rows


def write_tables(
    cells: Sequence[CellResult], folder: str | Path, *, reference: str = "osal_nd", target: float = 0.95
) -> str:
    """Write table.md, table.csv and results.json into `folder`; returns the Markdown. Raises OutputError."""
    folder = Path(folder)
    rows, warnings = build_table(cells, reference=reference, target=target), mixtures(cells)
    text = format_markdown(rows, reference=reference, target=target, warnings=warnings)
    write_bytes(folder / "table.md", text.encode())
    write_csv([_flat(row) for row in rows], folder / "table.csv")
    content = {"schema": TABLE_SCHEMA, "reference": reference, "target": target, "warnings": warnings}
    write_json(folder / "results.json", {**content, "rows": rows})
    return text


def format_markdown(
    rows: Sequence[Mapping], *, reference: str, target: float, warnings: Sequence[str] = ()
) -> str:
    """`build_table`'s rows as Markdown: for each setting the means, then the comparison with the reference."""
    name = styles_of([reference])[reference].label
    parts = [f"**Warning.** {line}." for line in warnings]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        inside = [row for row in rows if row["setting"] == setting]
        parts.append(f"### {setting_title(setting)}")
        if setting != ALL:
            parts.append(_means(inside, target))
        if any(row["aulc_paired"] for row in inside):
            parts.append(_comparison(inside, name))
        elif setting != ALL:
            parts.append(f"No cell of {name} here, so no paired comparison.")
    parts.append(
        "Mean ± sample standard deviation over cells (fold and seed); mAP50 and AULC in percent, the highest mean "
        "is bold. AULC: mean mAP50 along the labelled tiles; over minutes: along the estimated time of annotation, "
        "as far as all curves of the setting cover it. Purity: known nuclei / all nuclei queried. Tiles, boxes, "
        "minutes: labelled tiles, nuclei annotated in them and the estimated time that it takes, the initial set "
        "included. Passes: forward passes over a tile that the queries took, both detectors together. Differences: "
        f"the method minus {name}, on the cells that both have; in brackets the 95 % confidence interval of a paired "
        "t-test, which one pair does not have; W/T/L: pairs won, tied and lost by the method; p: Wilcoxon's signed- "
        f"rank test, from {_WILCOXON_PAIRS} pairs on. Neither is corrected for the number of methods compared; cells "
        "of one seed in several settings are not independent."
    )
    return "\n\n".join(parts) + "\n"


def _over_minutes(cell: CellResult, shared: Mapping[str, tuple[float, float] | None]) -> Value:
    within = shared[cell.setting]
    if within is None or cell.method in REFERENCES:
        return None
    return aulc(cell.rounds, x="minutes_annotated", within=within)


def _columns(group: Sequence[CellResult], shared: Mapping) -> dict[str, list]:
    return {
        "aulc_minutes": [_over_minutes(cell, shared) for cell in group],
        "aulc": [cell.aulc for cell in group],
        "final_mAP50": [cell.final_mAP50 for cell in group],
        "purity": [cell.purity for cell in group],
        **{
            key: [max(cell.column(key).values(), default=None) for cell in group]
            for key in ("labelled_tiles", "nuclei_annotated", "minutes_annotated")
        },
        "passes": [cell.passes for cell in group],
    }


def _against(group: Sequence[CellResult], reference: Sequence[CellResult], shared: Mapping) -> dict:
    """The paired columns of a row."""
    paired = {}
    same = not reference or group[0].method in (*REFERENCES, reference[0].method)
    for key, value in {
        "aulc_minutes_paired": lambda cell: _over_minutes(cell, shared),
        "aulc_paired": lambda cell: cell.aulc,
        "final_paired": lambda cell: cell.final_mAP50,
    }.items():
        ours, theirs = (
            {(cell.setting, str(cell.fold), cell.seed): value(cell) for cell in cells}
            for cells in (group, reference)
        )
        paired[key] = None if same else asdict(compare_paired(ours, theirs))
    return paired


def _means(rows: Sequence[Mapping], target: float) -> str:
    titles = ["method", "cells", "AULC over minutes", "AULC", "final mAP50"]
    level = rows[0]["target_mAP50"]
    if level is not None:
        titles.append(f"tiles to {level:.1f} ({100 * target:g} % of full)")
    titles += ["purity", "tiles", "boxes", "minutes", "passes"]
    best = {
        key: max((r[key] for r in rows if r["method"] not in REFERENCES and r[key] is not None), default=None)
        for key in ("aulc_minutes", "aulc", "final_mAP50")
    }
    body = []
    for row in rows:
        cells = [row["label"], f"{row['cells']} of {row['cells_in_setting']}"]
        for key in ("aulc_minutes", "aulc", "final_mAP50"):
            text = _spread(row, key, ".2f")
            compared = len(rows) > 1 and row["method"] not in REFERENCES
            top = compared and row[key] is not None and row[key] == best[key]
            cells.append(f"**{text}**" if top else text)
        if level is not None:
            reached = row["fraction_to_target"]
            never = "" if row["method"] in REFERENCES else "not reached"
            cells.append(never if reached is None else f"{100 * reached:.1f} %")
        cells.append(_spread(row, "purity", ".3f"))
        for key in ("labelled_tiles", "nuclei_annotated", "minutes_annotated", "passes"):
            cells.append(_spread(row, key, ".0f"))
        body.append(cells)
    return markdown_table(titles, body)


def _comparison(rows: Sequence[Mapping], name: str) -> str:
    titles = [f"against {name}", "pairs"]
    for what in ("AULC over minutes", "AULC", "final mAP50"):
        titles += [f"Δ {what} [95 % CI]", "W/T/L", "p"]
    body = []
    for row in rows:
        if row["aulc_paired"] is None:
            continue
        cells = [row["label"], str(row["final_paired"]["n"])]
        for key in ("aulc_minutes_paired", "aulc_paired", "final_paired"):
            paired = Paired(**row[key])
            interval = "[n < 2]" if paired.low is None else f"[{paired.low:+.2f}, {paired.high:+.2f}]"
            cells.append("no common cell" if paired.mean is None else f"{paired.mean:+.2f} {interval}")
            cells.append(f"{paired.wins}/{paired.ties}/{paired.losses}")
            cells.append("" if paired.p is None else "< 0.001" if paired.p < 0.001 else f"{paired.p:.3f}")
        body.append(cells)
    return markdown_table(titles, body)


def _spread(row: Mapping, key: str, form: str) -> str:
    if row[key] is None:
        return ""
    spread = row[f"{key}_sd"]
    return format(row[key], form) + ("" if spread is None else f" ± {format(spread, form)}")


def _flat(row: Mapping) -> dict:
    """For CSV: the fields of a paired comparison as columns of their own."""
    fields = asdict(Paired(0, None, None, None, 0, 0, 0, None))
    flat = {}
    for key, value in row.items():
        if key.endswith("_paired"):
            flat |= {f"{key}_{field}": (value or {}).get(field) for field in fields}
        else:
            flat[key] = value
    return flat
