"""Detections drawn on their image."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..evaluation.boxes import Legend, draw_box, legend_entries, look_of


def overlay_png(image: np.ndarray, table: Mapping[str, np.ndarray], classes: Sequence[str]) -> bytes:
    """A PNG of `image` (H, W, 3) RGB uint8 at its own size, with a legend below.

    Boxes have the colour of their class and are solid; dashed ones look unknown.
    """
    height, width = image.shape[:2]
    flagged = "looks_unknown" in table
    unknown = table["looks_unknown"] == 1 if flagged else np.zeros(len(table["boxes"]), bool)
    font = ImageFont.load_default(size=12)
    legend = Legend(legend_entries(classes, looks_unknown=flagged), width=width - 8, font=font)
    sheet = Image.new("RGB", (width, height + legend.height + 4), "white")
    sheet.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for box, label, dashed in zip(table["boxes"].tolist(), table["classes"].tolist(), unknown.tolist()):
        draw_box(draw, box, look_of(label, dashed=dashed))
    legend.draw(draw, 4, height + 3)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
