"""Pictures of queried tiles: what was asked for, why, and what the oracle answered."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import DataError
from ..core.labels import LabelFile
from ..core.ledger import round_name
from ..core.store import read_json, write_bytes
from .learning_curve import read_header

# Blue and yellow-orange: apart for any colour vision, and on pink and violet stain. Each line lies on a black
# rim; known boxes are solid, unknown ones dashed, so a grey print tells them apart as well.
KNOWN_COLOUR, UNKNOWN_COLOUR, RIM = (86, 180, 233), (255, 194, 10), (0, 0, 0)
TILE_WIDTH, MARGIN, TEXT_SIZE, LINE_HEIGHT = 380, 14, 14, 18
DASH = 5


def draw_gallery(path_png: str | Path, tiles: Sequence[Mapping], columns: int = 4) -> None:
    """Draw tiles with their boxes, captions and a legend into one PNG, whole or not at all.

    tiles: each with image_path; boxes, (N, 4) xywh in pixels; labels, N class names; known, N bools;
    title and caption: text above and below the tile (the caption may hold line breaks).
    Raises DataError naming an image that cannot be read; OutputError where the disk refuses.
    """
    if not tiles:
        raise DataError(f"{path_png}: there is no tile to draw")
    columns = max(1, min(columns, len(tiles)))
    font = ImageFont.load_default(size=TEXT_SIZE)
    cells = [_draw_cell(tile, font) for tile in tiles]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = max(MARGIN + columns * (TILE_WIDTH + MARGIN), 460)
    legend = LINE_HEIGHT + 2 * MARGIN
    sheet = Image.new("RGB", (width, legend + sum(heights) + MARGIN * len(rows)), "white")
    _draw_legend(ImageDraw.Draw(sheet), font)
    y = legend
    for row, height in zip(rows, heights):
        for column, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + column * (TILE_WIDTH + MARGIN), y))
        y += height + MARGIN
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_bytes(path_png, buffer.getvalue())


def gallery_for_round(
    run_folder: str | Path, round: int, records: Mapping[str, Mapping], max_tiles: int = 12
) -> Path | None:
    """Draw rounds/<round>/gallery.png: the first `max_tiles` of a query with scores, reasons and labels.

    records: image key -> a record with the absolute `file_name` of the image. Before the oracle has answered
    the tiles are drawn without boxes. Returns the path, or None if the round queried nothing (the last one).
    Raises DataError naming the tile or file that is missing.
    """
    run_folder = Path(run_folder)
    known_classes = set(read_header(run_folder)["known_classes"])
    folder = run_folder / "rounds" / round_name(round)
    selection = read_json(folder / "selection.json")
    selected = selection["selected"][:max_tiles]
    if not selected:
        return None
    answered = (folder / "labels.json").is_file()
    answers = LabelFile.read(folder / "labels.json").tiles if answered else {}
    scores = _read_scores(folder / "scores.npz")
    tiles = []
    for rank, key in enumerate(selected, start=1):
        if key not in records:
            raise DataError(
                f"{folder / 'selection.json'}: tile {key} is not among the images of the data set"
            )
        answer = answers.get(key)
        labels = list(answer.classes) if answer else []
        known = [name in known_classes for name in labels]
        state = "not labelled yet"
        if answer:
            state = f"{sum(known)} known, {len(known) - sum(known)} unknown" if known else answer.state
        values = [f"{name} {value:.4g}" for name, value in scores.get(key, {}).items() if np.isfinite(value)]
        lines = [state.replace("_", " "), ", ".join(values), selection.get("reasons", {}).get(key, "")]
        tiles.append(
            {
                "image_path": records[key]["file_name"],
                "boxes": list(answer.boxes) if answer else [],
                "labels": labels,
                "known": known,
                "title": f"rank {rank}: {key}",
                "caption": "\n".join(line for line in lines if line),
            }
        )
    draw_gallery(folder / "gallery.png", tiles)
    return folder / "gallery.png"


def _read_scores(path: Path) -> dict[str, dict[str, float]]:
    """{image key: {score name: value}}; empty for strategies that score nothing."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files if name not in ("keys", "selected")}
        return {
            str(key): {name: float(column[i]) for name, column in columns.items()}
            for i, key in enumerate(stored["keys"])
        }


def _draw_cell(tile: Mapping, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One tile at TILE_WIDTH, boxes drawn after scaling so that lines stay thin, with its text."""
    try:
        with Image.open(tile["image_path"]) as image:
            image = image.convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{tile['image_path']}: cannot be read as an image ({error}); restore the file"
        ) from error
    scale = TILE_WIDTH / image.width
    size = (TILE_WIDTH, max(1, round(image.height * scale)))
    title = _wrap(tile["title"], font)[:2]
    caption = [line for part in tile["caption"].split("\n") for line in _wrap(part, font)]
    top = LINE_HEIGHT * len(title) + 4
    cell = Image.new("RGB", (TILE_WIDTH, top + size[1] + 4 + LINE_HEIGHT * len(caption)), "white")
    picture = image.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    small = ImageFont.load_default(size=11)
    few = len(tile["boxes"]) <= 12  # names would hide a crowded tile
    for (x, y, w, h), name, known in zip(tile["boxes"], tile["labels"], tile["known"]):
        box = [x * scale, y * scale, (x + w) * scale, (y + h) * scale]
        draw_box(draw, box, colour=KNOWN_COLOUR if known else UNKNOWN_COLOUR, dashed=not known)
        if few:
            place = (max(2, min(box[0], size[0] - small.getlength(name) - 3)), max(2, box[1] - 15))
            draw.text(place, name, font=small, fill="white", stroke_width=1, stroke_fill="black")
    cell.paste(picture, (0, top))
    draw = ImageDraw.Draw(cell)
    for index, line in enumerate(title):
        draw.text((0, index * LINE_HEIGHT), line, font=font, fill="black")
    for index, line in enumerate(caption):
        draw.text((0, top + size[1] + 4 + index * LINE_HEIGHT), line, font=font, fill=(60, 60, 60))
    return cell


def draw_box(
    draw: ImageDraw.ImageDraw, box: Sequence[float], *, colour: tuple[int, int, int], dashed: bool
) -> None:
    """Draw the outline of a box (x0, y0, x1, y1) on a black rim."""
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    lines = []
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
        length = max(abs(bx - ax), abs(by - ay), 1e-6)
        dash, step = (DASH, 2 * DASH) if dashed else (length, length)
        for start in np.arange(0, length, step):
            a, b = start / length, min(start + dash, length) / length
            lines.append([ax + (bx - ax) * a, ay + (by - ay) * a, ax + (bx - ax) * b, ay + (by - ay) * b])
    for line in lines:
        draw.line(line, fill=RIM, width=4)
    for line in lines:
        draw.line(line, fill=colour, width=2)


def _draw_legend(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> None:
    x = MARGIN
    for known, text in ((True, "known class (solid)"), (False, "unknown class (dashed)")):
        colour = KNOWN_COLOUR if known else UNKNOWN_COLOUR
        draw_box(draw, [x, MARGIN, x + 36, MARGIN + 16], colour=colour, dashed=not known)
        draw.text((x + 46, MARGIN), text, font=font, fill="black")
        x += 220


def _wrap(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break `text` at the tile's width; long words (file names) break too."""
    per_line = max(10, int(TILE_WIDTH / max(font.getlength("x"), 1)))
    while True:
        lines = textwrap.wrap(text, per_line) or [""]
        if per_line <= 10 or all(font.getlength(line) <= TILE_WIDTH for line in lines):
            return lines
        per_line -= 2
