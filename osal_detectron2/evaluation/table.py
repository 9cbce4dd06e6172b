"""The table of a run as text: what each round cost, how its detector scored, and what was gained in all."""

import textwrap
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from ..core.annotation_cost import AnnotationCost
from .learning_curve import aulc

WIDTH = 100  # columns of a terminal
_CLASS_WIDTHS = (10, 8, 6)  # of a class's column, the widest that fits; names go on in the next line
_MOST_ROUNDS = 10  # in the table of classes

Rows = Sequence[Mapping]

# Title, column of the curve, format. The columns of the classes come behind mAP50.
_BEFORE = (
    ("round", "round", "d"),
    ("minutes of\nannotation", "minutes_annotated", ",.0f"),
    ("labelled\ntiles", "labelled_tiles", "d"),
    ("nuclei\nannotated", "nuclei_annotated", ",d"),
    ("mAP50", "mAP50", ".1f"),
)
_BEHIND = (("A-OSE", "A-OSE", "d"), ("purity", "purity", ".2f"))


def format_table(rows: Rows, known_classes: Sequence[str]) -> str:
    """The table printed at the end of a run, at most 100 columns wide; "-" stands for what does not exist.

    With more classes than fit beside mAP50, their AP50 is a second table below, with a line for each class.
    """
    for width in _CLASS_WIDTHS:
        per_class = [("\n".join(["AP50", *_wrapped(c, width)]), f"AP50-{c}", ".1f") for c in known_classes]
        text = _table(rows, (*_BEFORE, *per_class, *_BEHIND))
        if max(map(len, text.split("\n"))) <= WIDTH:
            return text
    return f"{_table(rows, (*_BEFORE, *_BEHIND))}\n\n{_class_table(rows, known_classes)}"


def legend(costs: AnnotationCost) -> str:
    """What the columns of `format_table` mean."""
    text = (
        "Minutes, tiles and nuclei: what the detector of this round was trained on, and what people need for it (as "
        f"measured, else by an estimate: {costs.per_tile:g} s a tile, {costs.per_nucleus:g} s a nucleus). mAP50, and "
        "AP50 of each class: percent, on the test tiles; AULC: the mean mAP50 along the minutes. A-OSE: unknown nuclei "
        "of the test tiles that it takes for known. Purity: known nuclei / all nuclei of the tiles that it asked for "
        "next."
    )
    return textwrap.fill(text, WIDTH)


def gain(rows: Rows) -> str:
    """One sentence: from the first round to the last, what it took and what was gained; "" without a round."""
    if not rows:
        return ""
    rounds = "1 round" if len(rows) == 1 else f"{len(rows)} rounds"
    last = rows[-1]
    if last.get("nuclei_annotated") is None:
        return ""
    minutes = last["minutes_annotated"]
    time = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
    cost = (
        f"{last['labelled_tiles']:,} tiles, {last['nuclei_annotated']:,} nuclei, about {time} of annotation"
    )
    scored = _course(rows, "mAP50", ".1f")
    if scored is None:
        return f"{rounds}: {cost}. Not evaluated: there are no test tiles with known nuclei."
    mean = f"AULC over minutes {aulc(rows, x='minutes_annotated'):.1f}, " if len(rows) > 1 else ""
    text = f"{rounds}: {mean}mAP50 {scored} with {cost}"
    taken = _course(rows, "A-OSE", "d")
    return f"{text}; unknown nuclei taken for known (A-OSE) {taken}." if taken else f"{text}."


def layout(titles: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Right-aligned columns, two blanks apart. Titles may have several lines; the last ones stand on one level."""
    split = [title.split("\n") for title in titles]
    height = max(map(len, split))
    split = [[""] * (height - len(lines)) + lines for lines in split]
    head = [list(line) for line in zip(*split)]
    widths = [max(map(len, column)) for column in zip(*head, *body)]
    lines = [*head, ["-" * width for width in widths], *body]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)


def markdown_table(titles: Sequence[str], body: Sequence[Sequence]) -> str:
    """Markdown, the columns right-aligned but the first."""
    aligned = ("left", *["right"] * (len(titles) - 1))
    return tabulate(body, titles, tablefmt="pipe", disable_numparse=True, colalign=aligned)


def cell(value, form: str) -> str:
    """A figure as text; "-" for None."""
    return "-" if value is None else format(value, form)


def _table(rows: Rows, columns: Sequence[tuple[str, str, str]]) -> str:
    body = [[cell(row.get(column), form) for _, column, form in columns] for row in rows]
    return layout([title for title, _, _ in columns], body)


def _class_table(rows: Rows, known_classes: Sequence[str]) -> str:
    shown = rows[-_MOST_ROUNDS:]
    wide = max(map(len, known_classes))
    titles = ["AP50 of".ljust(wide), *(f"round\n{row['round']}" for row in shown)]
    body = [
        [name.ljust(wide), *(cell(row.get(f"AP50-{name}"), ".1f") for row in shown)] for name in known_classes
    ]
    return layout(titles, body)


def _wrapped(name: str, width: int) -> list[str]:
    """The whole name in lines of `width`: broken at blanks and underscores, a long word with a hyphen."""
    lines = []
    for word in name.replace("_", " ").split():
        while len(word) > width:
            lines.append(word[: width - 1] + "-")
            word = word[width - 1 :]
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [name]


def _course(rows: Rows, column: str, form: str) -> str | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    if not values:
        return None
    return " -> ".join(
        format(value, form) for value in (values if len(values) == 1 else (values[0], values[-1]))
    )
