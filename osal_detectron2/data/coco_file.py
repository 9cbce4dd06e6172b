"""Read a COCO detection JSON and say what is wrong with it. Numpy and the standard library only.

The rules live in one place: `coco_findings` lists every fault of a file (`osal data check` prints
them all), `read_coco` raises the first one.
"""

import difflib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from osal_detectron2.core.errors import ConfigError, DataError

ERROR, WARNING, INFO = "ERROR", "WARNING", "INFO"

# A side below this (pixels) is no side: boxes become float32, whose spacing at coordinate 10^4 is 0.001.
MIN_SIDE = 1e-3
FROM_A_FOLDER = "osal data config --images FOLDER --known CLASS ... makes a JSON and a config of images alone"


@dataclass(frozen=True)
class Finding:
    """One fault or remark. `level`: ERROR, WARNING or INFO; `check`: a stable short code, e.g. "box-zero"."""

    level: str
    check: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


def parse_coco(json_file: str) -> dict:
    """The parsed file, checked only for its top level: `images`, `annotations`, `categories` are lists.

    Tiles that nobody has labelled need neither `annotations` nor, if somebody else names the classes, `categories`:
    both are [] then. Raises DataError where the file is missing, is not JSON, is cut off, or lacks a list.
    """
    path = os.fspath(json_file)
    try:
        with open(path, encoding="utf-8-sig") as stream:  # -sig: editors on Windows put a byte order mark
            text = stream.read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path of the COCO JSON") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not a COCO JSON; {FROM_A_FOLDER}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8; save the COCO JSON as UTF-8") from None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise DataError(f"{path}: the file is empty; export or copy it again") from None
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise DataError(
                f"{path}: the JSON ends in mid-air (truncated); export or copy it again"
            ) from None
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: not valid JSON at {where} ({error.msg}); mend or export again") from None
    if not isinstance(data, dict):
        raise DataError(
            f"{path}: a COCO file is a JSON object, this is a {type(data).__name__}; export as COCO"
        )
    if "images" in data:
        data.setdefault("annotations", [])
        if data["annotations"] == []:
            data.setdefault("categories", [])
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            what = "is not a list" if key in data else "is missing"
            raise DataError(f'{path}: top-level key "{key}" {what}; export as COCO detection (instances)')
    return data


def coco_findings(data: dict, json_file: str) -> list[Finding]:
    """Every fault of the entries of `data` (from `parse_coco`); [] for a sound file. All are errors, except
    boxes wholly outside their image ("box-outside"), which loading drops and counts."""
    parts = (_category_findings, _image_findings, _box_findings)
    return [finding for part in parts for finding in part(data, json_file)]


def read_coco(json_file: str) -> dict:
    """Parse and validate. Raises DataError with the first fault that makes the file unusable."""
    data = parse_coco(json_file)
    for finding in coco_findings(data, os.fspath(json_file)):
        if finding.check != "box-outside":
            raise DataError(str(finding))
    return data


def known_class_findings(
    known_classes: Sequence[str], names: Sequence[str], json_file: str
) -> Iterator[Finding]:
    """Faults of the user's list of known classes against the category `names` of the file."""
    if isinstance(known_classes, str) or not known_classes:
        message = f"known classes must be a list of names, got {known_classes!r}"
        yield Finding(ERROR, "known-empty", message, f"name at least one of {', '.join(map(str, names))}")
        return
    for index, name in enumerate(known_classes):
        if name in known_classes[:index]:
            yield Finding(ERROR, "known-duplicate", f"known class {name!r} is listed twice", "list it once")
        # A file that nobody has labelled may leave its classes to this list.
        elif names and name not in names:
            by_lower = {str(known).lower(): known for known in names}
            close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
            remedy = f"did you mean {by_lower[close[0]]!r}? " if close else ""
            remedy += f"The file has {', '.join(map(str, names))}"
            message = f"{json_file}: known class {name!r} is not among the categories"
            yield Finding(ERROR, "known-typo", message, remedy)


def check_known_classes(known_classes: Sequence[str], names: Sequence[str], json_file: str) -> None:
    """Raise ConfigError with the first of `known_class_findings`."""
    for finding in known_class_findings(known_classes, names, json_file):
        raise ConfigError(str(finding))


def clip_box(box: Sequence[float], width: float, height: float) -> list[float]:
    """`box` (x, y, w, h) cut at the borders of an image. A box wholly outside gets a side <= 0."""
    x, y, w, h = (float(value) for value in box)
    if x >= 0 and y >= 0 and x + w <= width and y + h <= height:
        return [x, y, w, h]  # untouched, not even by rounding
    left, top = max(x, 0.0), max(y, 0.0)
    return [left, top, min(x + w, float(width)) - left, min(y + h, float(height)) - top]


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_size(value) -> bool:
    return _is_number(value) and math.isfinite(value) and value > 0 and float(value).is_integer()


def _is_id(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_inside_root(file_name: str) -> bool:
    paths = PurePosixPath(file_name), PureWindowsPath(file_name)
    return not any(path.is_absolute() or ".." in path.parts or path.anchor for path in paths)


def _id_findings(entries: list, kind: str, key: str, json_file: str) -> Iterator[Finding]:
    """Entries that are no objects, have no whole-number id, or share one."""
    seen = {}
    for row, entry in enumerate(entries):
        where = f"{json_file}: {key}[{row}]"
        if not isinstance(entry, dict):
            yield Finding(ERROR, f"{kind}-id", f"{where} is not an object", "export the file again")
        elif not _is_id(entry.get("id")):
            what = f"{where} has id {entry['id']!r}" if "id" in entry else f"{where} has no id"
            yield Finding(ERROR, f"{kind}-id", what, f"give every {kind} a whole-number id")
        elif entry["id"] in seen:
            what = f"{where} repeats {kind} id {entry['id']} of {key}[{seen[entry['id']]}]"
            yield Finding(ERROR, f"{kind}-id", what, "give each its own id")
        else:
            seen[entry["id"]] = row


def _entries(data: dict, key: str) -> list[tuple[int, dict]]:
    return [(row, entry) for row, entry in enumerate(data[key]) if isinstance(entry, dict)]


def _category_findings(data: dict, json_file: str) -> Iterator[Finding]:
    yield from _id_findings(data["categories"], "category", "categories", json_file)
    seen = set()
    for row, category in _entries(data, "categories"):
        name, where = category.get("name"), f"{json_file}: categories[{row}]"
        if not isinstance(name, str) or not name:
            message = f"{where} has no name"
            yield Finding(ERROR, "category-name", message, "give every category a name")
        elif name in seen:
            message = f"{where} repeats the name {name!r}"
            yield Finding(ERROR, "category-name", message, "merge the two categories")
        else:
            seen.add(name)


def _image_findings(data: dict, json_file: str) -> Iterator[Finding]:
    yield from _id_findings(data["images"], "image", "images", json_file)
    seen = {}
    for row, image in _entries(data, "images"):
        name, where = image.get("file_name"), f"{json_file}: images[{row}]"
        if not isinstance(name, str) or not name:
            message = f"{where} (id {image.get('id')}) has no file_name"
            yield Finding(ERROR, "image-name", message, "add it, relative to the image folder")
            continue
        if not _is_inside_root(name):
            message = f"{where} has file_name {name!r}, which leaves the image folder"
            remedy = "write it relative to the image folder: it is the tile's identity on every machine"
            yield Finding(ERROR, "image-name", message, remedy)
        elif name in seen:
            message = f"{where} repeats file_name {name!r} of images[{seen[name]}]"
            remedy = "file_name is a tile's identity: merge the two entries or rename one"
            yield Finding(ERROR, "image-name", message, remedy)
        seen.setdefault(name, row)
        for key in ("width", "height"):
            if not _is_size(image.get(key)):
                what = f"has {key} {image[key]!r}" if key in image else f"has no {key}"
                message = f"{where} ({name}) {what}"
                yield Finding(ERROR, "image-size", message, f"write the image's {key} in pixels")


def _box_findings(data: dict, json_file: str) -> Iterator[Finding]:
    images = {image["id"]: image for _, image in _entries(data, "images") if _is_id(image.get("id"))}
    categories = {entry["id"] for _, entry in _entries(data, "categories") if _is_id(entry.get("id"))}
    yield from _id_findings(data["annotations"], "annotation", "annotations", json_file)
    for row, entry in _entries(data, "annotations"):
        where = f"{json_file}: annotation {entry.get('id', f'[{row}]')}"
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        image = images.get(image_id) if _is_id(image_id) else None
        if image is None:
            message = f"{where} points to image_id {image_id!r}, which is not in images"
            yield Finding(ERROR, "annotation-image", message, "add the image or remove the annotation")
            continue
        where += f" of {image.get('file_name')}"
        if not _is_id(category_id) or category_id not in categories:
            message = f"{where} has category_id {category_id!r}, which is not in categories"
            yield Finding(ERROR, "annotation-category", message, "add the category or mend the id")
        if entry.get("iscrowd", 0) not in (0, 1):
            message = f"{where} has iscrowd {entry['iscrowd']!r}"
            yield Finding(ERROR, "annotation-crowd", message, "write 0 or 1")
        yield from _one_box(entry.get("bbox"), image, f"{where} has bbox {entry.get('bbox')!r}")


def _one_box(box, image: dict, where: str) -> Iterator[Finding]:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        yield Finding(ERROR, "box-form", where, "write four numbers: x, y, width, height in pixels")
    elif not all(math.isfinite(value) for value in box):
        yield Finding(ERROR, "box-nan", f"{where}, not finite", "mend or remove the annotation")
    elif box[2] < 0 or box[3] < 0:
        remedy = "boxes are x, y, width, height, not two corners"
        yield Finding(ERROR, "box-negative", f"{where} with a negative size", remedy)
    elif box[2] < MIN_SIDE or box[3] < MIN_SIDE:
        yield Finding(ERROR, "box-zero", f"{where} without area", "remove the annotation")
    elif _is_size(width := image.get("width")) and _is_size(height := image.get("height")):
        if min(clip_box(box, width, height)[2:]) < MIN_SIDE:
            remedy = "remove the annotation or mend its image_id; loading drops it"
            yield Finding(
                ERROR, "box-outside", f"{where} wholly outside the image ({width}x{height})", remedy
            )
