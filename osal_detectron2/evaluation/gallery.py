"""Pictures of queried tiles: what was asked for, why, what the oracle answered, and what the detector had found."""

import io
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import DataError
from ..core.extension import folder_of
from ..core.labels import LabelFile, TileLabels
from ..core.ledger import Ledger
from ..core.round_files import read_detections, tile_scores
from ..core.store import read_json, write_bytes
from .boxes import Legend, Look, draw_box, legend_entries, look_of

PICTURE_WIDTH, MARGIN, GAP, TEXT_SIZE, LINE_HEIGHT = 380, 16, 6, 14, 18
TEXT, FAINT = (0, 0, 0), (70, 70, 70)

# Columns of scores.npz in words. What a strategy calls its reason says n_known, n_detected, ci and li already.
SCORE_WORDS = {
    "ci": "class uncertainty",
    "li": "box uncertainty",
    "score": "score that ranks the tiles",
    "margin": "on average nearer to the known prototype by",
    "n_known": "nuclei that look known",
    "n_detected": "nuclei detected",
    "known_like": "likeness to known nuclei",
    "mean_score": "mean detection score",
    "mutual": "information shared with the query so far",
    "predicted_loss": "predicted loss",
    "tightness": "box tightness",
    "stability": "stability under noise",
}
_SAID_BY_REASON = ("ci", "li", "n_known", "n_detected")


def draw_gallery(
    path_png: str | Path,
    tiles: Sequence[Mapping],
    legend: Sequence[tuple[Look, str]],
    columns: int | None = None,
) -> None:
    """Draw tiles with their boxes, captions and a legend into one PNG, whole or not at all.

    tiles: each with image_path; title and caption: text above and below (the caption may hold line breaks); pictures:
    one or more of the same tile side by side, each with heading, boxes (N, 4) xywh in pixels, looks, N `Look`, and
    labels, N class names. legend: see `boxes.Legend`. columns: of tiles; None: as many as make four pictures.
    Raises DataError naming an image that cannot be read; OutputError where the disk refuses.
    """
    if not tiles:
        raise DataError(f"{path_png}: there is no tile to draw")
    across = max(len(tile["pictures"]) for tile in tiles)
    columns = max(1, min(columns or 4 // across, len(tiles)))
    font = ImageFont.load_default(size=TEXT_SIZE)
    cell_width = across * (PICTURE_WIDTH + GAP) - GAP
    cells = [_draw_cell(tile, cell_width, font) for tile in tiles]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = MARGIN + columns * (cell_width + MARGIN)
    key = Legend(legend, width=width - 2 * MARGIN, font=font)
    top = key.height + 2 * MARGIN
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN * len(rows)), "white")
    key.draw(ImageDraw.Draw(sheet), MARGIN, MARGIN)
    y = top
    for row, height in zip(rows, heights):
        for column, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + column * (cell_width + MARGIN), y))
        y += height + MARGIN
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_bytes(path_png, buffer.getvalue())


def gallery_for_round(
    run_folder: str | Path, round_index: int, records: Mapping[str, Mapping], max_tiles: int = 12
) -> Path | None:
    """Draw rounds/<round>/gallery.png: the first `max_tiles` of a query with reasons, labels and detections.

    records: image key -> a record with the absolute `file_name` of the image. Before the oracle has answered
    the tiles are drawn without its boxes; without a detections.json (runs of older versions) there is one picture a
    tile. Returns the path, or None if the round queried nothing (the last one). Raises DataError naming the tile or
    file that is missing.
    """
    run_folder = Path(run_folder)
    known_classes = Ledger.open(run_folder).header["known_classes"]
    folder = folder_of(run_folder, round_index)
    selection = read_json(folder / "selection.json")
    selected = selection["selected"][:max_tiles]
    if not selected:
        return None
    path = folder / "labels.json"
    answers = LabelFile.read(path).tiles if path.is_file() else {}
    found = read_detections(folder)
    scores = tile_scores(folder)
    tiles = []
    for rank, key in enumerate(selected, start=1):
        if key not in records:
            raise DataError(
                f"{folder / 'selection.json'}: tile {key} is not among the images of the data set"
            )
        pictures = [answered(answers.get(key), known_classes)]
        if key in found:
            pictures.append(detected(found[key], known_classes))
        reason = selection.get("reasons", {}).get(key, "")
        tiles.append(
            {
                "image_path": records[key]["file_name"],
                "pictures": pictures,
                "title": f"{rank}. {key}",
                "caption": "\n".join(
                    line for line in (reason, scores_in_words(scores.get(key, {}), reason)) if line
                ),
            }
        )
    unsure = any(True in tile["looks_unknown"] for tile in found.values())
    legend = legend_entries(known_classes, unknown=True, looks_unknown=unsure)
    draw_gallery(folder / "gallery.png", tiles, legend)
    return folder / "gallery.png"


def answered(answer: TileLabels | None, known_classes: Sequence[str]) -> dict:
    """The picture of what the oracle answered."""
    labels = list(answer.classes) if answer else []
    indices = [known_classes.index(name) if name in known_classes else None for name in labels]
    if answer is None:
        heading = "not labelled yet"
    elif not labels:
        heading = answer.state.replace("_", " ")
    else:
        heading = f"annotated: {_counts(labels, known_classes)}; {indices.count(None)} unknown"
    return {
        "heading": heading,
        "boxes": list(answer.boxes) if answer else [],
        "looks": [look_of(index) for index in indices],
        "labels": labels,
    }


def detected(found: Mapping, known_classes: Sequence[str]) -> dict:
    """The picture of what the detector that made the query had found."""
    labels, unknown = found["classes"], found["looks_unknown"]
    heading = f"detected (score {found['score_thresh']:g} or more): {_counts(labels, known_classes)}"
    if any(flag is not None for flag in unknown):
        heading += f"; {unknown.count(True)} look unknown"
    return {
        "heading": heading,
        "boxes": found["boxes"],
        "looks": [look_of(known_classes.index(n), dashed=u is True) for n, u in zip(labels, unknown)],
        "labels": labels,
    }


def _counts(labels: Sequence[str], known_classes: Sequence[str]) -> str:
    number = Counter(labels)
    return ", ".join(f"{number[name]} {name.replace('_', ' ')}" for name in known_classes)


def scores_in_words(values: Mapping[str, float], reason: str) -> str:
    said = _SAID_BY_REASON if reason else ()
    shown = {name: value for name, value in values.items() if name not in said and np.isfinite(value)}
    return "; ".join(f"{SCORE_WORDS.get(name, name.replace('_', ' '))} {v:.4g}" for name, v in shown.items())


def _draw_cell(tile: Mapping, width: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The pictures of one tile with its text."""
    try:
        with Image.open(tile["image_path"]) as image:
            image = image.convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{tile['image_path']}: cannot be read as an image ({error}); restore the file"
        ) from error
    height = max(1, round(image.height * PICTURE_WIDTH / image.width))
    title = _wrap(tile["title"], font, width)
    headings = [_wrap(picture["heading"], font, PICTURE_WIDTH) for picture in tile["pictures"]]
    caption = [line for part in tile["caption"].split("\n") for line in _wrap(part, font, width)]
    below = LINE_HEIGHT * len(title) + 2
    top = below + LINE_HEIGHT * max(map(len, headings)) + 3
    cell = Image.new("RGB", (width, top + height + 4 + LINE_HEIGHT * len(caption)), "white")
    draw = ImageDraw.Draw(cell)
    _write(draw, title, 0, 0, font, TEXT)
    for place, (picture, heading) in enumerate(zip(tile["pictures"], headings)):
        x = place * (PICTURE_WIDTH + GAP)
        _write(draw, heading, x, below, font, FAINT)
        cell.paste(_with_boxes(image, picture, height), (x, top))
    _write(draw, caption, 0, top + height + 4, font, FAINT)
    return cell


def _with_boxes(image: Image.Image, picture: Mapping, height: int) -> Image.Image:
    """The tile at PICTURE_WIDTH, boxes drawn after scaling so that lines stay thin."""
    scale = PICTURE_WIDTH / image.width
    drawn = image.resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    small = ImageFont.load_default(size=11)
    few = len(picture["boxes"]) <= 12  # names would hide a crowded tile
    for (x, y, w, h), look, name in zip(picture["boxes"], picture["looks"], picture["labels"]):
        box = [x * scale, y * scale, (x + w) * scale, (y + h) * scale]
        draw_box(draw, box, look)
        if few:
            place = (max(2, min(box[0], PICTURE_WIDTH - small.getlength(name) - 3)), max(2, box[1] - 15))
            draw.text(place, name, font=small, fill="white", stroke_width=1, stroke_fill="black")
    return drawn


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], x: int, y: int, font, fill) -> None:
    for index, line in enumerate(lines):
        draw.text((x, y + index * LINE_HEIGHT), line, font=font, fill=fill)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break `text` at `width` pixels; long words (file names) break too, and nothing is cut off."""
    per_line = max(10, int(width / max(font.getlength("x"), 1)))
    while True:
        lines = textwrap.wrap(text, per_line) or [""]
        if per_line <= 10 or all(font.getlength(line) <= width for line in lines):
            return lines
        per_line -= 2
