"""YOLO: a text file a tile, each line a class number and a box (centre and size, in parts of the tile).

A label file belongs to the tile whose key it has, but for the suffix, below the folder of labels: so the format is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..core.errors import DataError
from .batch import Request, RequestedTile
from .files import library, number, place_of, text, write_texts
from .sheet import Page, Sheet, around, batch_name

README = """\
1. Open the folder in your tool: images/, labels/ and classes.txt (or data.yaml). train.txt has the best order.
2. Correct the boxes of each tile and save.
3. Write the file_name of each tile that you have finished without a box into opened.txt, one a line.
4. YOUR_FILE is the folder, or the ZIP archive that your tool exports, with classes.txt, obj.names or data.yaml in it.
5. {import_command}
   The format has no word for "looked at": tiles with changed boxes count as done. For those without a box add
       --treat-empty-as empty --opened opened.txt
   and --accept-unchanged if tiles whose drafts were all right were reviewed.
"""
_SPLITS = ("train", "val", "valid", "test")
_NO_LABELS = re.compile(
    r"(classes|train|val|valid|test|images|opened|notes|readme[\w.-]*)\.txt", re.IGNORECASE
)


def write(request: Request, folder: Path) -> None:
    """Write labels/<key without suffix>.txt, classes.txt, data.yaml and train.txt."""
    numbers = {name: index for index, name in enumerate(request.offered)}
    names = "".join(f"  {index}: {json.dumps(name)}\n" for name, index in numbers.items())  # JSON is YAML
    texts = {
        "classes.txt": "".join(f"{name}\n" for name in numbers),
        "data.yaml": f"# {batch_name(request)}\npath: .\ntrain: train.txt\nval: train.txt\nnames:\n{names}",
        "train.txt": "".join(f"./images/{key}\n" for key in request.tiles),
    }
    for key, tile in request.tiles.items():
        path = f"labels/{place_of(key, 'or use COCO').with_suffix('.txt')}"
        if path in texts:
            raise DataError(
                f"tile {key}: another tile has its name but for the suffix; rename one, or use COCO"
            )
        lines = []
        for name, (x, y, w, h), _ in tile.drafts:
            parts = ((x + w / 2) / tile.width, (y + h / 2) / tile.height, w / tile.width, h / tile.height)
            lines.append(f"{numbers[name]} {' '.join(f'{part:.10f}' for part in parts)}\n")
        texts[path] = "".join(lines)
    write_texts(folder, texts)


def read(files: Mapping[str, bytes], request: Request, where: str) -> list[Sheet]:
    """One sheet. Raises DataError where the names of the classes are missing."""
    names, sheet = _class_names(files, where), Sheet()
    keys: dict[str, list[str]] = {}
    for key in request.tiles:
        keys.setdefault(str(PurePosixPath(key).with_suffix("")), []).append(key)
    for file, content in files.items():
        if file.lower().endswith((".yaml", ".yml")):
            sheet.made_for(content[:200].decode("latin-1").partition("\n")[0].lstrip("# "))
    texts = [file for file in files if file.lower().endswith(".txt")]
    below = [file for file in texts if _below_labels(file) is not None]
    for file in below or [file for file in texts if not _NO_LABELS.fullmatch(file)]:
        content = files[file]
        stems = _stems(file)
        found = next((keys[stem] for stem in stems if stem in keys), [])
        if len(found) > 1:
            sheet.problems.append(f"{file}: may be {' or '.join(found)}; use another format")
            continue
        page = Page(found[0] if found else f"{stems[0]}.txt")
        if found:
            page.boxes = _boxes(content, file, request.tiles[found[0]], names, f"{where}: {file}", sheet)
        sheet.pages.append(page)
    return [sheet]


def _below_labels(file: str) -> list[str] | None:
    """The parts of a label file's path below labels or obj_train_data, without suffix; None if it lies elsewhere."""
    parts = list(PurePosixPath(file).with_suffix("").parts)
    for index, part in enumerate(parts[:-1]):
        if part == "labels" or re.fullmatch(r"obj_\w+_data", part):
            return parts[index + 1 :]
    return None


def _stems(file: str) -> list[str]:
    """What of a label file's path may be a key without suffix: with and without the split."""
    parts = _below_labels(file) or list(PurePosixPath(file).with_suffix("").parts)
    stems = ["/".join(parts)]
    if len(parts) > 1 and parts[0].lower() in _SPLITS:
        stems.append("/".join(parts[1:]))
    return stems


def _boxes(content: bytes, file: str, tile: RequestedTile, names: list, where: str, sheet: Sheet) -> list:
    boxes = []
    for row, line in enumerate(text(content, where).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        place = f"{file}, line {row}"
        try:
            index, *values = (number(word, "a value") for word in words)
            if index != int(index) or not 0 <= index < len(names):
                raise ValueError(f"class {words[0][:40]} is none of 0 to {len(names) - 1}; correct the line")
            if len(values) in (4, 5):  # the fifth is a score
                cx, cy, w, h = values[:4]
                box = [cx - w / 2, cy - h / 2, w, h]
            elif len(values) >= 6 and len(values) % 2 == 0:
                box = around(list(zip(values[::2], values[1::2])))
            else:
                raise ValueError("is no class with a box or a polygon; correct the line")
        except ValueError as error:
            sheet.problems.append(f"{place}: {error}")
            continue
        scale = (tile.width, tile.height) * 2
        boxes.append((place, names[int(index)], [round(v * s, 4) for v, s in zip(box, scale)]))
    return boxes


def _class_names(files: Mapping[str, bytes], where: str) -> list[str]:
    for file, content in files.items():
        if PurePosixPath(file).name.lower() in ("classes.txt", "obj.names"):
            names = [line.strip() for line in text(content, f"{where}: {file}").splitlines()]
            return [name for name in names if name]
    for file, content in files.items():
        if file.lower().endswith((".yaml", ".yml")):
            yaml = library("yaml", "YOLO's data.yaml files")
            try:
                names = yaml.safe_load(text(content, f"{where}: {file}"))["names"]
                names = (
                    list(names) if isinstance(names, list) else [names[index] for index in range(len(names))]
                )
            except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise DataError(
                    f"{where}: {file}: has no list of names ({type(error).__name__}); put a classes.txt beside it"
                ) from error
            return [str(name) for name in names]
    raise DataError(
        f"{where}: has no classes.txt, obj.names or data.yaml with the names of the classes; add one"
    )
