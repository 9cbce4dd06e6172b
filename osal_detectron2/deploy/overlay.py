"""Detections drawn on their image."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..evaluation.gallery import draw_box
from .geojson import colour_of

BAND = 18


def overlay_png(image: np.ndarray, table: Mapping[str, np.ndarray], classes: Sequence[str]) -> bytes:
    """A PNG of `image` (H, W, 3) RGB uint8 at its own size, with a legend below.

    Boxes have the colour of their class and are solid; dashed ones look unknown.
    """
    height, width = image.shape[:2]
    font = ImageFont.load_default(size=12)
    entries = [(colour_of(i), False, name) for i, name in enumerate(classes)]
    unknown = table.get("looks_unknown", np.zeros(len(table["boxes"]))) == 1
    if "looks_unknown" in table:
        entries.append(((255, 255, 255), True, "looks unknown"))
    places, x, line = [], 4, 0
    for *_, name in entries:
        wide = 30 + int(font.getlength(name))
        if x > 4 and x + wide > width:
            x, line = 4, line + 1
        places.append((x, height + 3 + line * BAND))
        x += wide
    sheet = Image.new("RGB", (width, height + (line + 1) * BAND + 4), (40, 40, 40))
    sheet.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for box, label, dashed in zip(table["boxes"].tolist(), table["classes"].tolist(), unknown.tolist()):
        draw_box(draw, box, colour=colour_of(label), dashed=dashed)
    for (x, y), (colour, dashed, name) in zip(places, entries):
        draw_box(draw, [x, y + 2, x + 16, y + 12], colour=colour, dashed=dashed)
        draw.text((x + 22, y), name, font=font, fill="white")
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
