"""The figures of the benchmark: one panel a setting, one line a method, means over folds and seeds."""

import io
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..core.errors import check_choice
from ..core.store import write_bytes
from ..evaluation.learning_curve import mean_and_spread, mean_curve
from ..evaluation.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from .layout import COLUMN, PAPER, by_rows, legend_columns, panel_grid
from .results import REFERENCES, CellResult, by_method, by_setting
from .styles import ABLATIONS, Style, setting_title, styles_of, varied_by

FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Curves:
    """What one figure of curves shows: for each axis a column of the cells and its label, and which of the methods."""

    across: tuple[str, str]
    up: tuple[str, str]
    kind: str = "methods"
    references: bool = False  # methods that query nothing as horizontal lines

    def shown(self, methods: Collection[str]) -> set[str]:
        """Of the methods of a setting: "variations" are those named after another one there, and that one;
        "ablations" are ABLATIONS and OSAL-ND; "methods" are the others. Nothing without one to show."""
        varied = {m: varied_by(m) for m in methods if varied_by(m) in methods}
        others = set(methods) - set(varied) - set(REFERENCES)
        groups = {
            "variations": {*varied, *varied.values()},
            "ablations": others.intersection(ABLATIONS),
            "methods": others.difference(ABLATIONS),
        }
        chosen = groups[self.kind]
        if chosen and self.kind == "ablations":
            chosen |= others & {"osal_nd"}
        if chosen and self.references:
            chosen |= set(REFERENCES).intersection(methods)
        return chosen


# A column of the cells and the label of its axis.
_TILES = "labelled_fraction", "Labelled tiles (%)"
_AFTER = "labelled_fraction_after_query", "Labelled tiles (%)"
_MINUTES = "minutes_annotated", "Estimated time of annotation (minutes)"
_BOXES = "nuclei_annotated", "Boxes paid for (known + unknown)"
_MAP = "mAP50", "mAP50, known classes (%)"
_PURITY = "purity", "Purity of the query (known / all)"
FIGURES = {
    "map_per_minute": Curves(_MINUTES, _MAP, references=True),
    "fig2_map": Curves(_TILES, _MAP, references=True),
    "fig3_known_queried": Curves(_AFTER, ("known_cumulative", "Known nuclei queried (cumulative)")),
    "fig4_ablations": Curves(_TILES, _MAP, kind="ablations", references=True),
    "variations": Curves(_TILES, _MAP, kind="variations", references=True),
    "map_per_box": Curves(_BOXES, _MAP, references=True),
    "map_per_known_box": Curves(("known_annotated", "Known nuclei annotated"), _MAP, references=True),
    "map_per_box_ablations": Curves(_BOXES, _MAP, kind="ablations", references=True),
    "map_per_minute_ablations": Curves(_MINUTES, _MAP, kind="ablations", references=True),
    "purity": Curves(_AFTER, _PURITY),
    "purity_ablations": Curves(_AFTER, _PURITY, kind="ablations"),
}


def draw_all(
    cells: Sequence[CellResult], folder: str | Path, *, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Write every figure that `cells` have figures for into `folder`; returns the paths.

    Raises ConfigError for a format other than FORMATS, OutputError where the disk refuses.
    """
    for name in formats:
        check_choice("--format", name, FORMATS)
    figures = {name: draw_curves(cells, curves) for name, curves in FIGURES.items()}
    figures["seconds_per_round"] = draw_seconds(cells)
    paths = []
    for name, figure in figures.items():
        for suffix in formats if figure else ():
            path = Path(folder) / f"{name}.{suffix}"
            write_bytes(path, render(figure, suffix))
            paths.append(path)
    return paths


def render(figure: Figure, suffix: str) -> bytes:
    """The bytes of a figure; the same figure gives the same bytes."""
    stamps = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    with rc_context(PAPER):
        figure.savefig(buffer, format=suffix, metadata=stamps[suffix])
    return buffer.getvalue()


def draw_curves(cells: Sequence[CellResult], what: Curves) -> Figure | None:
    """One panel a setting and one shared legend; None if no cell has both columns or no method is to be shown.

    Lines are means over folds and seeds, error bars one sample standard deviation. Methods that share their labelled
    fractions are drawn a little beside each other, so that no bar hides another.
    """
    (x, xlabel), (y, ylabel), panels = what.across, what.up, {}
    for setting, inside in by_setting(cells).items():
        groups = by_method(inside)
        groups = {m: groups[m] for m in what.shown(groups)}
        rounds = {m: [cell.rounds for cell in g] for m, g in groups.items() if m not in REFERENCES}
        points = {m: p for m, r in rounds.items() if (p := mean_curve(r, x, y))}
        if points:
            panels[setting] = points, _levels(groups, what)
    if not panels:
        return None
    styles = styles_of({cell.method for cell in cells})
    drawn = [m for m in styles if any(m in points or m in levels for points, levels in panels.values())]
    with rc_context(PAPER):
        figure, axes = panel_grid(len(panels), labels=[styles[m].label for m in drawn])
        for axis, (setting, (points, levels)) in zip(axes, panels.items()):
            percent = x.startswith("labelled")
            _draw_panel(axis, points, levels, styles=styles, order=drawn, percent=percent)
            axis.set_title(setting_title(setting), loc="left", fontweight="bold")
            place = axis.get_subplotspec()
            if place.is_first_col():
                axis.set_ylabel(ylabel)
            if place.rowspan.stop * place.get_gridspec().ncols + place.colspan.start >= len(panels):
                axis.set_xlabel(xlabel)  # nothing below it
        looks = {m: _reference_line(styles[m]) if m in REFERENCES else styles[m].plot for m in drawn}
        handles = [Line2D([], [], label=styles[m].label, **look) for m, look in looks.items()]
        columns = legend_columns([styles[m].label for m in drawn], width=figure.get_figwidth())
        figure.legend(
            handles=by_rows(handles, columns),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=2.9,
            columnspacing=1.3,
        )
    return figure


def draw_seconds(cells: Sequence[CellResult]) -> Figure | None:
    """Stacked bars: mean seconds of a round per method, split by step, over all rounds of all cells given.

    None if no cell was timed. Methods that query nothing are left out: their one round is longer by design.
    """
    groups = by_method([cell for cell in cells if cell.method not in REFERENCES])
    spent = {method: _mean_seconds(group) for method, group in groups.items()}
    spent = {m: seconds for m, seconds in spent.items() if seconds}
    if not spent:
        return None
    styles = styles_of(spent)
    steps = sorted({s for seconds in spent.values() for s in seconds}, key=_step_place)
    colors = (BLUE, ORANGE, SKY, GREEN, PURPLE, VERMILLION, BLACK, GREY)
    looks = dict(zip(steps, zip(colors * 3, _HATCHES * 3)))
    with rc_context(PAPER):
        figure = Figure(figsize=(COLUMN, 1.1 + 0.19 * len(spent)), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        left = dict.fromkeys(spent, 0.0)
        for step in steps:
            widths = [spent[m].get(step, 0.0) for m in styles]
            axis.barh(
                [styles[m].label for m in styles],
                widths,
                left=[left[m] for m in styles],
                height=0.7,
                label=step.replace("_", " "),
                color=looks[step][0],
                hatch=looks[step][1],
                edgecolor="white",
                linewidth=0.4,
            )
            left = {m: left[m] + width for m, width in zip(styles, widths)}
        axis.set_ylim(len(spent) - 0.4, -0.6)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("Seconds per round (mean)")
        columns = min(len(steps), 3)
        figure.legend(
            handles=by_rows(axis.containers, columns),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
    return figure


_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "oo")
_STEPS = ("train", "evaluate", "score", "query", "annotate")


def _step_place(step: str) -> tuple[int, str]:
    return (_STEPS.index(step) if step in _STEPS else len(_STEPS)), step


def _mean_seconds(cells: Sequence[CellResult]) -> dict[str, float]:
    rounds = [row["seconds"] for cell in cells for row in cell.rounds if row.get("seconds")]
    steps = {step for seconds in rounds for step in seconds}
    return {step: statistics.fmean(seconds.get(step) or 0.0 for seconds in rounds) for step in sorted(steps)}


def _levels(groups: Mapping[str, Sequence[CellResult]], what: Curves) -> dict[str, float]:
    """Method -> mean mAP50 of those that query nothing."""
    levels = {m: mean_and_spread([cell.final_mAP50 for cell in groups.get(m, ())])[0] for m in REFERENCES}
    return {m: level for m, level in levels.items() if level is not None} if what.up == _MAP else {}


def _draw_panel(
    axis,
    points: Mapping,
    levels: Mapping[str, float],
    *,
    styles: Mapping[str, Style],
    order: Sequence[str],
    percent: bool,
) -> None:
    scale = 100 if percent else 1
    present = [m for m in order if m in points]
    ends = [scale * point[0] for curve in points.values() for point in curve]
    step = 0.004 * (max(ends) - min(ends)) if percent else 0.0
    for place, method in enumerate(present):
        beside = 0.0 if styles[method].emphasis else (place - len(present) / 2) * step
        xs = [scale * point[0] + beside for point in points[method]]
        means = [point[1] for point in points[method]]
        style = styles[method].plot
        axis.plot(xs, means, label=styles[method].label, clip_on=False, **style)
        if any(point[2] for point in points[method]):
            axis.errorbar(
                xs,
                means,
                yerr=[point[2] or 0.0 for point in points[method]],
                fmt="none",
                ecolor=style["color"],
                elinewidth=0.9 if styles[method].emphasis else 0.6,
                alpha=0.9 if styles[method].emphasis else 0.55,
                zorder=style["zorder"] - 1,
            )
    for method, level in levels.items():
        axis.axhline(level, label=styles[method].label, **_reference_line(styles[method]))
    if percent:
        axis.set_xticks(sorted({round(100 * point[0]) for curve in points.values() for point in curve}))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    if max(point[1] for curve in points.values() for point in curve) >= 1000:
        axis.yaxis.set_major_formatter(FuncFormatter(_thousands))


def _thousands(value: float, _) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _reference_line(style: Style) -> dict:
    return {"color": style.color, "linestyle": style.line, "linewidth": 1.0, "zorder": 2}
