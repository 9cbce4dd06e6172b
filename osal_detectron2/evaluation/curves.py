"""The learning curves as a picture: over the time that annotation takes and over labelled tiles."""

import io
from collections.abc import Mapping, Sequence

from .learning_curve import mean_curve
from .palette import BLACK, BLUE, GREY, LINE_COLORS, VERMILLION, class_color

LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Rows = Sequence[Mapping]

_AP50 = "AP50-"
_AXES = {  # what -> its column for the detector of a round, its column after the query of the round, label
    "seconds": ("minutes_annotated", "minutes_after_query", "estimated time of annotation ({unit})"),
    "tiles": (
        "labelled_fraction",
        "labelled_fraction_after_query",
        "labelled tiles (% of the training tiles)",
    ),
    "nuclei": ("nuclei_annotated", None, "nuclei annotated (known and unknown)"),
}


def draw_curves(groups: Mapping[str, Sequence[Rows]], *, unit: str = "tiles") -> bytes:
    """A PNG: mAP50 and A-OSE over the time of annotation (above) and over labelled tiles (below), nuclei, purity.

    groups: strategy -> the curves of its runs. A single run also shows the AP50 of each class; several runs of a
    strategy are their mean with a band of one standard deviation. A panel whose figures do not exist says so.
    unit: of the budget; "nuclei" has these below instead of tiles.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 7.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    scale, time = _time_unit([rows for curves in groups.values() for rows in curves])
    classes = _classes(groups) if len(groups) == 1 else []
    for index, (strategy, curves) in enumerate(groups.items()):
        style = _style(index)
        if classes:
            style["color"] = BLACK
        for row, (x, _, _) in enumerate(_axes(unit)):
            factor = {"minutes": scale, "labelled": 100}.get(x.split("_")[0], 1)
            name = "mAP50, mean of the classes" if classes else strategy
            _draw_group(axes[row, 0], curves, x, "mAP50", factor, label=name, **style)
            for number, known in enumerate(classes):
                thin = {"color": class_color(number, on_paper=True), "linestyle": LINES[1], "linewidth": 1.2}
                thin |= {"marker": MARKERS[1:][number % len(MARKERS[1:])], "markersize": 4}
                _draw_group(axes[row, 0], curves, x, _AP50 + known, factor, label=f"AP50 {known}", **thin)
            own = style | {"color": VERMILLION} if classes else style
            _draw_group(axes[row, 1], curves, x, "A-OSE", factor, **own)
        after = _AXES["tiles"][1]
        known, unknown = (style | look for look in _known_unknown(single=len(groups) == 1))
        _draw_group(axes[0, 2], curves, after, "cumulative_known", 100, **known)
        _draw_group(axes[0, 2], curves, after, "cumulative_unknown", 100, **unknown)
        _draw_group(axes[1, 2], curves, after, "purity", 100, y_factor=100, **style)
    _describe(axes, _axes(unit), time, single=len(groups) == 1)
    handles = axes[0, 0].get_legend_handles_labels()
    if handles[0]:
        figure.legend(*handles, loc="outside lower center", ncols=min(len(handles[0]), 6), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _style(index: int) -> dict:
    return {
        "color": LINE_COLORS[index % len(LINE_COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index % len(LINES)],
        "markersize": 5.5,
        "linewidth": 1.9,
    }


def _known_unknown(*, single: bool) -> tuple[dict, dict]:
    """One run: two colours and line styles. Several: filled and hollow markers, since their colours are taken."""
    if single:
        return {"color": BLUE, "linestyle": "-"}, {
            "color": VERMILLION,
            "linestyle": "--",
            "marker": MARKERS[1],
        }
    return {}, {"markerfacecolor": "white"}


def _axes(unit: str) -> list[tuple]:
    """Of the upper and the lower row."""
    return [_AXES["seconds"], _AXES["nuclei" if unit == "nuclei" else "tiles"]]


def _describe(axes, rows, time: str, *, single: bool) -> None:
    """Titles and labels of the six panels, and room for the markers."""
    hint = "solid: known, dashed: unknown" if single else "filled: known, hollow: unknown"
    for row, (_, _, label) in enumerate(rows):
        axes[row, 0].set_ylabel(
            "average precision at IoU 0.5 (%)" if single else "mAP50 of the known classes (%)"
        )
        axes[row, 1].set_ylabel("unknown nuclei taken for known (A-OSE)")
        for panel in axes[row, :2]:
            panel.set_xlabel(label.format(unit=time))
    for panel in axes[:, 2]:
        panel.set_xlabel(_AXES["tiles"][2])
    axes[0, 0].set_title("known classes, on the test tiles")
    axes[0, 1].set_title("unknown nuclei, on the test tiles")
    axes[0, 2].set(title="nuclei in all queries so far", ylabel=f"nuclei ({hint})")
    axes[1, 2].set(title="purity of each query", ylabel="known nuclei / all nuclei (%)")
    for panel in axes.flat:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        if not panel.lines:
            panel.text(0.5, 0.5, "no figures", transform=panel.transAxes, ha="center", color=GREY)
        panel.margins(x=0.05)
        panel.set_ylim(0, 1.1 * max((max(line.get_ydata()) for line in panel.lines), default=1) or 1)
    axes[1, 2].set_ylim(0, 105)


def _draw_group(
    axes, curves: Sequence[Rows], x: str, y: str, factor: float, *, color: str, y_factor: float = 1, **style
) -> None:
    points = mean_curve(curves, x, y)
    if not points:
        return
    xs = [factor * point[0] for point in points]
    axes.plot(xs, [y_factor * point[1] for point in points], color=color, clip_on=False, **style)
    if any(point[2] for point in points):
        low, high = (
            [y_factor * (point[1] + sign * (point[2] or 0.0)) for point in points] for sign in (-1, 1)
        )
        axes.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)


def _classes(groups: Mapping[str, Sequence[Rows]]) -> list[str]:
    """Known classes, in the order of the detector."""
    rows = [row for curves in groups.values() for rows in curves for row in rows]
    return [key.removeprefix(_AP50) for key in (rows[0] if rows else ()) if key.startswith(_AP50)]


def _time_unit(curves: Sequence[Rows]) -> tuple[float, str]:
    minutes = [row.get("minutes_annotated") or 0 for rows in curves for row in rows]
    return (1 / 60, "hours") if max(minutes, default=0) >= 300 else (1, "minutes")
