"""Reader of the NuCLS corrected single-rater release, as it is distributed (Amgad et al., GigaScience 2022).

    RELEASE/rgb/STEM.png   RELEASE/csv/STEM.csv   RELEASE/train_test_splits/fold_1_train.csv ...

One PNG and one CSV a field of view (called a tile here). The stem starts with the slide's name, whose second
dash-separated part is the hospital: `TCGA-AN-A0XU-DX1_id-..._left-32501_top-21485_bottom-21806_right-32812`.
Only the header of each image is read.
"""

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import DataError

CLASSES = ("tumor", "lymphocyte", "stromal", "plasma_cell", "mitotic_figure", "macrophage", "other")
"""The paper's seven classes, in the order of its section 3."""

SETTINGS = {"5_2": CLASSES[:5], "4_3": CLASSES[:4], "3_4": CLASSES[:3]}
"""Known classes of the paper's Table 1, by number of known and unknown classes. The rest is unknown."""

AMBIGUOUS = "AMBIGUOUS"

RAW_CLASSES = {
    "tumor": "tumor",
    "mitotic_figure": "mitotic_figure",
    "lymphocyte": "lymphocyte",
    "plasma_cell": "plasma_cell",
    "macrophage": "macrophage",
    "fibroblast": "stromal",
    "vascular_endothelium": "stromal",
    "neutrophil": "other",
    "eosinophil": "other",
    "myoepithelium": "other",
    "ductal_epithelium": "other",
    "apoptotic_body": AMBIGUOUS,
    "unlabeled": AMBIGUOUS,
}

MAIN_CLASSES = {
    "tumor_nonMitotic": "tumor",
    "tumor_mitotic": "mitotic_figure",
    "lymphocyte": "lymphocyte",
    "plasma_cell": "plasma_cell",
    "macrophage": "macrophage",
    "nonTILnonMQ_stromal": "stromal",
    "other_nucleus": "other",
    AMBIGUOUS: AMBIGUOUS,
}

TABLES = {"main": ("main_classification", MAIN_CLASSES), "raw": ("raw_classification", RAW_CLASSES)}
AMBIGUOUS_POLICIES = ("drop", "other", "ignore")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_REGION = re.compile(r"_(left|top|right|bottom)-(-?\d+)")


@dataclass(frozen=True)
class Nucleus:
    """One labelled nucleus. `bbox` is [x, y, width, height] in pixels, inside the tile."""

    bbox: tuple[float, float, float, float]
    class_name: str
    raw_class: str
    ignore: bool = False


@dataclass(frozen=True)
class Tile:
    """One field of view. `file_name` is relative to the release's rgb folder and is the tile's key.

    `region` has left, top, right, bottom in the slide's own level-0 pixels (not the pixels of the PNG).
    """

    file_name: str
    width: int
    height: int
    slide: str
    hospital: str
    region: dict[str, int]
    nuclei: tuple[Nucleus, ...]


@dataclass
class Report:
    """What reading found and what it left out: nothing is dropped without being counted here."""

    tiles: int = 0
    empty_tiles: int = 0
    per_class: Counter = field(default_factory=Counter)
    ambiguous: int = 0
    clipped: int = 0
    degenerate: int = 0
    outside: int = 0
    csv_without_png: list[str] = field(default_factory=list)
    png_without_csv: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self):
        """The report as lines of text, for a terminal."""
        classes = ", ".join(f"{name} {self.per_class[name]}" for name in CLASSES)
        yield f"{self.tiles} tiles ({self.empty_tiles} without nuclei), {sum(self.per_class.values())} nuclei"
        yield f"  classes: {classes}"
        yield f"  ambiguous or unlabeled nuclei: {self.ambiguous}"
        yield f"  boxes clipped at the border: {self.clipped}"
        yield f"  boxes dropped: {self.degenerate} without area, {self.outside} outside their tile"
        for label, names in (
            ("CSV without PNG", self.csv_without_png),
            ("PNG without CSV", self.png_without_csv),
        ):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                yield f"  {label}, left out: {len(names)} ({', '.join(names[:5])}{more})"
        yield from (f"  note: {note}" for note in self.notes)


def read_release(release, classes_from="main", ambiguous="drop"):
    """Read every tile of a release.

    Args:
        release: folder that holds rgb/ and csv/.
        classes_from: "main" or "raw", the column that the seven classes are made from.
        ambiguous: what becomes of apoptotic bodies and unlabeled nuclei: "drop" leaves them out, "other"
            makes them nuclei of the class other, "ignore" keeps them under other with iscrowd = 1, which
            training skips.

    Returns:
        (tiles sorted by name, Report).

    Raises:
        DataError: naming the file, and the line for a bad row, with what to do.
    """
    if classes_from not in TABLES:
        raise DataError(f"classes_from is {classes_from!r}: use one of {', '.join(TABLES)}")
    if ambiguous not in AMBIGUOUS_POLICIES:
        raise DataError(f"ambiguous is {ambiguous!r}: use one of {', '.join(AMBIGUOUS_POLICIES)}")
    release = Path(release)
    images, tables = _files(release, "rgb", ".png"), _files(release, "csv", ".csv")
    report = Report(
        csv_without_png=sorted(tables.keys() - images.keys()),
        png_without_csv=sorted(images.keys() - tables.keys()),
    )
    tiles = [
        _read_tile(images[stem], tables[stem], classes_from, ambiguous, report)
        for stem in sorted(images.keys() & tables.keys())
    ]
    if not tiles:
        raise DataError(
            f"{release}: no PNG in rgb/ has a CSV of the same name in csv/; unpack both archives here"
        )
    report.tiles = len(tiles)
    report.empty_tiles = sum(not tile.nuclei for tile in tiles)
    return tiles, report


def parse_stem(stem):
    """(slide, hospital, region) of a tile's stem; `region` has left, top, right, bottom where the stem does.

    Raises ValueError for a stem that does not start like a TCGA slide.
    """
    slide = stem.split("_id-")[0].split("_left-")[0]
    parts = slide.split("-")
    if len(parts) < 3 or not all(parts[:3]):
        raise ValueError(stem)
    return slide, parts[1], {side: int(value) for side, value in _REGION.findall(stem)}


def _files(release, folder, suffix):
    """Files of one kind by stem, without the hidden ones that archives made on macOS bring along."""
    path = release / folder
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder; --release must be the unpacked NuCLS corrected single-rater release, "
            "with rgb/ and csv/ in it"
        )
    return {p.stem: p for p in path.iterdir() if p.suffix.lower() == suffix and not p.name.startswith(".")}


def _read_tile(image, table, classes_from, ambiguous, report):
    from PIL import Image, UnidentifiedImageError  # here: the tables above are options of a command

    try:
        slide, hospital, region = parse_stem(image.stem)
    except ValueError:
        raise DataError(
            f"{image}: the name does not start with a slide like TCGA-AN-A0XU-DX1, so slide and hospital are "
            "unknown; keep the names of the release"
        ) from None
    try:
        with Image.open(image) as png:
            width, height = png.size
    except (UnidentifiedImageError, OSError) as err:
        raise DataError(f"{image}: cannot be read as an image ({err}); download it again") from None
    nuclei = []
    for line, row in _rows(table, (TABLES[classes_from][0], *CORNERS)):
        nucleus = _nucleus(row, f"{table}, line {line}", width, height, classes_from, ambiguous, report)
        if nucleus is not None:
            nuclei.append(nucleus)
            report.per_class[nucleus.class_name] += not nucleus.ignore
    return Tile(image.name, width, height, slide, hospital, region, tuple(nuclei))


def _rows(table, columns):
    """(line number, row) of one CSV; a file without rows is a tile without nuclei."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in columns if name not in (reader.fieldnames or columns)]
            if missing:
                raise DataError(f"{table}, line 1: no column {', '.join(missing)}; download the file again")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"{table}: cannot be read as CSV ({err}); download it again") from None


def _nucleus(row, where, width, height, classes_from, ambiguous, report):
    """One row as a Nucleus, or None where it is left out (and counted)."""
    column, table = TABLES[classes_from]
    written = (row[column] or "").strip()
    name = table.get(written.removeprefix("correction_"))
    if name is None:
        raise DataError(
            f"{where}: {column} is {written!r}, which is none of {', '.join(table)}; "
            "correct the row or remove it"
        )
    corners = [_number(row[key], f"{where}: {key}") for key in CORNERS]
    is_ambiguous = name == AMBIGUOUS
    report.ambiguous += is_ambiguous
    if is_ambiguous and ambiguous == "drop":
        return None
    bbox = _clip(corners, width, height, report)
    if bbox is None:
        return None
    raw = (row.get("raw_classification") or written).strip().removeprefix("correction_")
    return Nucleus(bbox, "other" if is_ambiguous else name, raw, is_ambiguous and ambiguous == "ignore")


def _number(text, where):
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} is {text!r}, not a number of pixels; correct the row or remove it")
    return value


def _clip(corners, width, height, report):
    """[x, y, w, h] inside the tile, or None for a box without area or with less than a pixel inside."""
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        report.degenerate += 1
        return None
    cx0, cy0, cx1, cy1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if cx1 - cx0 < 1 or cy1 - cy0 < 1:
        report.outside += 1
        return None
    report.clipped += [cx0, cy0, cx1, cy1] != corners
    return (cx0, cy0, cx1 - cx0, cy1 - cy0)
