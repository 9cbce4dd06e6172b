"""The page: sizes and fonts of a paper, panels, and a legend below them."""

import math
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.0  # inches: one column of a paper, and both
PAPER = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.fonttype": "none",
    "svg.hashsalt": "osal",
    "savefig.dpi": 300,
}


def panel_grid(count: int, *, labels: Sequence[str]) -> tuple[Figure, list]:
    """(figure, axes) for `count` panels above a legend of `labels`.

    One panel with few labels fills a column of a paper, others the whole width.
    """
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = math.ceil(count / columns)
    width = COLUMN if count == 1 and len(labels) <= 8 else PAGE
    lines = math.ceil(len(labels) / legend_columns(labels, width=width))
    height = {1: 2.3, 2: 2.3}.get(columns, 1.95) * rows + 0.25 + 0.17 * lines
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def legend_columns(labels: Sequence[str], *, width: float) -> int:
    """As many as fit into `width` inches: a line and its gaps take 0.55, a character 0.065."""
    for columns in range(min(len(labels), 6), 1, -1):
        if sum(0.55 + 0.065 * max(map(len, labels[i::columns])) for i in range(columns)) <= width:
            return columns
    return 1


def by_rows(handles: Sequence, columns: int) -> list:
    """`handles` in the order in which a legend of `columns`, which fills them downwards, reads along its rows."""
    return [handle for start in range(columns) for handle in handles[start::columns]]
