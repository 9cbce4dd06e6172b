"""Boxes on a picture and the legend that explains them, for galleries and overlays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw, ImageFont

from .palette import UNKNOWN_COLOR, class_color, rgb

RIM = (0, 0, 0)
DASH = 5
UNKNOWN_CLASS, LOOKS_UNKNOWN = "unknown class", "looks unknown"


@dataclass(frozen=True)
class Look:
    """How a box is drawn: solid or dashed, (red, green, blue) on a black rim."""

    color: tuple[int, int, int]
    dashed: bool = False


def look_of(index: int | None, *, dashed: bool = False) -> Look:
    """The look of known class `index`, of an unknown nucleus for None."""
    return Look(rgb(UNKNOWN_COLOR), True) if index is None else Look(rgb(class_color(index)), dashed)


def draw_box(draw: ImageDraw.ImageDraw, box: Sequence[float], look: Look) -> None:
    """Draw the outline of a box (x0, y0, x1, y1). The rim goes all the way round, also under dashes."""
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    sides = list(zip(corners, corners[1:] + corners[:1]))
    for side in sides:
        draw.line(side, fill=RIM, width=4)
    for (ax, ay), (bx, by) in sides:
        length = max(abs(bx - ax), abs(by - ay), 1e-6)
        dash, step = (DASH, 2 * DASH) if look.dashed else (length, length)
        for start in np.arange(0, length, step):
            a, b = start / length, min(start + dash, length) / length
            line = [ax + (bx - ax) * a, ay + (by - ay) * a, ax + (bx - ax) * b, ay + (by - ay) * b]
            draw.line(line, fill=look.color, width=2)


class Legend:
    """Entries (look, text) in rows of at most `width` pixels; `height` is what they need."""

    BOX, GAP = 24, 18

    def __init__(
        self, entries: Sequence[tuple[Look, str]], *, width: int, font: ImageFont.FreeTypeFont, row: int = 22
    ) -> None:
        self.entries, self.font, self.row = entries, font, row
        self.places, x, y = [], 0, 0
        for _, text in entries:
            wide = self.BOX + 8 + int(font.getlength(text))
            if x and x + wide > width:
                x, y = 0, y + row
            self.places.append((x, y))
            x += wide + self.GAP
        self.height = y + row if entries else 0

    def draw(self, draw: ImageDraw.ImageDraw, x: int, y: int, *, fill: str = "black") -> None:
        """Draw with the upper left corner at (x, y). A grey ground shows white lines on white paper."""
        for (left, top), (look, text) in zip(self.places, self.entries):
            box = [x + left, y + top + 3, x + left + self.BOX, y + top + self.row - 5]
            draw.rectangle(box, fill=(150, 130, 160))
            draw_box(draw, box, look)
            draw.text((x + left + self.BOX + 8, y + top + 1), text, font=self.font, fill=fill)


def legend_entries(
    classes: Sequence[str], *, unknown: bool = False, looks_unknown: bool = False
) -> list[tuple[Look, str]]:
    """A line for each known class and, where there are such boxes, those of the unknown ones."""
    entries = [(look_of(index), name.replace("_", " ")) for index, name in enumerate(classes)]
    if unknown:
        entries.append((look_of(None), UNKNOWN_CLASS))
    if looks_unknown:
        entries.append((look_of(0, dashed=True), LOOKS_UNKNOWN))
    return entries
