"""Line charts as inline SVG: numbers in, markup out. Their figures stand in a table beside them, which callers add."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .html import Child, Markup, tag

WIDTH, HEIGHT = 420, 290
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 44
SHAPES = (
    7  # of markers; a line has the shape of its number, so that colour is never all that tells them apart
)
_DASHES = (None, "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Line:
    """One curve. points: (x, y), or (x, y, spread) for a band of y - spread to y + spread. look: number of its colour
    and marker. strong: drawn thicker."""

    name: str
    points: Sequence[tuple]
    look: int
    strong: bool = False


def marker(x: float, y: float, shape: int, *, size: float = 4.5, cls: str = "", title: str = "") -> Markup:
    """A circle, square, triangle, diamond, triangle upside down, cross or star at (x, y)."""
    at = f"M{x:.1f} {y:.1f}"
    s = f"{size:.2g}"
    d = f"{2 * size:.2g}"
    form = (
        f"m-{s} 0a{s} {s} 0 1 0 {d} 0a{s} {s} 0 1 0 -{d} 0z",
        f"m-{s} -{s}h{d}v{d}h-{d}z",
        f"m0 -{s}l{s} {d}h-{d}z",
        f"m0 -{1.3 * size:.2g}l{s} {1.3 * size:.2g}l-{s} {1.3 * size:.2g}l-{s} -{1.3 * size:.2g}z",
        f"m0 {s}l-{s} -{d}h{d}z",
        f"m-{s} -{s}l{d} {d}m0 -{d}l-{d} {d}",
        f"m-{s} 0h{d}m-{s} -{s}v{d}",
    )[shape % SHAPES]
    thick = 2 if shape % SHAPES > 4 else None
    return tag("path", tag("title", title) if title else None, d=at + form, cls=cls, stroke_width=thick)


def line_chart(
    name: str,
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x: str,
    y: str,
    top: float | None = None,
) -> Markup:
    """A figure: the curves, a legend if there are several, and a caption. name: unique in the page. x, y: what the axes
    say. top: end of the y axis; None: by the data. Without a point it says so.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return tag("figure", tag("h3", title), tag("p", "There are no figures for this yet."), cls="chart")
    x_ticks = ticks(0.0, max(p[0] for p in points))
    highest = max(p[1] + (p[2] or 0.0 if len(p) > 2 else 0.0) for p in points)
    y_ticks = ticks(0.0, highest if top is None else top)
    across, down = x_ticks[-1] or 1.0, y_ticks[-1] or 1.0

    def place(px: float, py: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * px / across,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * py / down,
        )

    drawn: list[Child] = [_axes(x_ticks, y_ticks, place, x, y)]
    for line in lines:
        drawn += _drawn(line, place)
    picture = _picture(name, title, description, drawn)
    key = legend([(line.name, line.look) for line in lines], lines=True) if len(lines) > 1 else None
    return tag("figure", tag("h3", title), picture, key, tag("figcaption", description), cls="chart")


def legend(entries: Sequence[tuple[str, int]], *, lines: bool = False, kind: str = "s") -> Markup:
    """What the markers (and lines) of each name look like. kind: the beginning of the class of their colour."""
    items = []
    for name, look in entries:
        line = (
            tag("path", d="M0 8H30", cls=f"line {kind}{look}", stroke_dasharray=dash(look)) if lines else None
        )
        sign = tag(
            "svg", line, marker(15, 8, look, cls=f"{kind}{look}"), viewBox="0 0 30 16", aria_hidden="true"
        )
        items.append(tag("li", tag("span", sign, cls="plot"), name))
    return tag("ul", items, cls="key")


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers from `low` to beyond `high`, at most `most` and one."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= most)
    count = math.ceil(round(span / step, 6))
    return [round(low + i * step, 10) for i in range(count + 1)]


def dash(look: int) -> str | None:
    """The dashes of a line."""
    return _DASHES[look % len(_DASHES)]


def _picture(name: str, title: str, description: str, drawn: Child) -> Markup:
    words = [tag("title", title, id=f"{name}-title"), tag("desc", description, id=f"{name}-desc")]
    return tag(
        "svg",
        words,
        drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        cls="plot",
    )


def _axes(x_ticks: Sequence[float], y_ticks: Sequence[float], place, x: str, y: str) -> list[Child]:
    drawn: list[Child] = []
    for value in y_ticks:
        px, py = place(0, value)
        drawn.append(tag("path", d=f"M{px:.1f} {py:.1f}H{WIDTH - RIGHT}", cls="grid"))
        drawn.append(tag("text", f"{value:g}", x=f"{px - 6:.1f}", y=f"{py + 4:.1f}", text_anchor="end"))
    for value in x_ticks:
        px, py = place(value, 0)
        drawn.append(tag("path", d=f"M{px:.1f} {py:.1f}v4", cls="grid"))
        drawn.append(tag("text", f"{value:g}", x=f"{px:.1f}", y=f"{py + 17:.1f}", text_anchor="middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    drawn.append(tag("text", x, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"))
    turned = f"rotate(-90 12 {middle:g})"
    drawn.append(tag("text", y, x=12, y=f"{middle:g}", text_anchor="middle", transform=turned))
    return drawn


def _drawn(line: Line, place) -> list[Child]:
    at = [place(p[0], p[1]) for p in line.points]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in at)
    drawn: list[Child] = []
    if any(len(p) > 2 and p[2] for p in line.points):
        ends = [[place(p[0], max(p[1] + sign * (p[2] or 0.0), 0.0)) for p in line.points] for sign in (1, -1)]
        round_ = [*ends[0], *reversed(ends[1])]
        area = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in round_) + "z"
        drawn.append(tag("path", d=area, cls=f"band s{line.look}"))
    strong = " strong" if line.strong else ""
    drawn.append(tag("path", d=path, cls=f"line s{line.look}{strong}", stroke_dasharray=dash(line.look)))
    for (px, py), p in zip(at, line.points):
        title = f"{line.name}: {p[1]:.4g} at {p[0]:.4g}"
        drawn.append(marker(px, py, line.look, cls=f"s{line.look}", title=title))
    return drawn
