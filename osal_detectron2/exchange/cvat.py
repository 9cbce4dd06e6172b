"""CVAT for images 1.1: one XML file, boxes in pixels, a tag of the image for the tile's state.

Without datumaro: its release of today (1.13.12) needs Pillow 12, pandas, pyarrow and an opencv-python-headless below 5,
against ours (docs/annotation_tools.md). Read with defusedxml, for files come from other machines.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from ..core.errors import DataError
from ..evaluation.palette import GREEN, VERMILLION, class_color
from .batch import Request
from .files import number, place_of, write_texts, xml_of
from .sheet import REVIEW, TILE_DONE, TILE_REJECTED, Page, Sheet, around, batch_name, drop_reviews_if_unused

README = f"""\
1. Tasks > Create new task, name it {{name}} (the name says which batch it is). Labels > Raw: paste labels.json.
2. Select the files of images/ in the order of images.txt; Advanced configuration > Sorting method: Predefined. Submit.
3. In the task: Actions > Upload annotations > CVAT 1.1, annotations.xml.
4. Open the job. Mark every nucleus of a tile, then set the tag "{TILE_DONE}" (Setup tag), or "{TILE_REJECTED}" if it
   cannot be used. A tile without a tag stays pending, as soon as one has a tag.
5. Actions > Export task dataset > CVAT for images 1.1. YOUR_FILE is the ZIP archive that it makes.
6. {{import_command}}
"""


def write(request: Request, folder: Path) -> None:
    """Write annotations.xml, labels.json (the raw label configuration) and images.txt."""
    colors = {name: class_color(index) for index, name in enumerate(request.offered)}
    score = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    kinds = [
        *({"name": n, "color": c, "type": "rectangle", "attributes": [score]} for n, c in colors.items()),
        {"name": TILE_DONE, "color": GREEN, "type": "tag", "attributes": []},
        {"name": TILE_REJECTED, "color": VERMILLION, "type": "tag", "attributes": []},
    ]
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    for tag, value in (
        ("name", batch_name(request)),
        ("size", str(len(request.tiles))),
        ("mode", "annotation"),
    ):
        ElementTree.SubElement(task, tag).text = value
    labels = ElementTree.SubElement(task, "labels")
    for kind in kinds:
        label = ElementTree.SubElement(labels, "label")
        for tag in ("name", "color", "type"):
            ElementTree.SubElement(label, tag).text = kind[tag]
        attributes = ElementTree.SubElement(label, "attributes")
        for attribute in kind["attributes"]:
            entry = ElementTree.SubElement(attributes, "attribute")
            for tag in ("name", "input_type", "default_value"):
                ElementTree.SubElement(entry, tag).text = attribute[tag]
            ElementTree.SubElement(entry, "mutable").text = "False"
            ElementTree.SubElement(entry, "values").text = ""
    for index, (key, tile) in enumerate(request.tiles.items()):
        size = {"width": str(tile.width), "height": str(tile.height)}
        name = str(place_of(key, "or use COCO"))
        image = ElementTree.SubElement(root, "image", {"id": str(index), "name": name, **size})
        for name, (x, y, w, h), score in tile.drafts:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + w, y + h))
            box = {"label": name, "source": "auto", "occluded": "0", "z_order": "0"}
            box |= {side: f"{round(value, 4)}" for side, value in corners}
            entry = ElementTree.SubElement(image, "box", box)
            if score is not None:
                ElementTree.SubElement(entry, "attribute", {"name": "score"}).text = str(score)
    ElementTree.indent(root)
    texts = {
        "annotations.xml": '<?xml version="1.0" encoding="utf-8"?>\n'
        + ElementTree.tostring(root, encoding="unicode")
        + "\n",
        "labels.json": json.dumps(kinds, indent=1) + "\n",
        "images.txt": "".join(f"images/{key}\n" for key in request.tiles),
    }
    write_texts(folder, texts)


def read(files: Mapping[str, bytes], request: Request, where: str) -> list[Sheet]:
    """One sheet. Raises DataError for XML that is none of CVAT for images."""
    found = {name: content for name, content in files.items() if name.lower().endswith(".xml")} or dict(files)
    if len(found) != 1:
        raise DataError(f"{where}: holds {len(found)} XML files; import one task at a time")
    root = xml_of(next(iter(found.values())), where)
    if root.tag != "annotations":
        raise DataError(f"{where}: is not CVAT's XML (its root is <{root.tag}>); export CVAT for images 1.1")
    if root.find("track") is not None:
        raise DataError(f"{where}: is CVAT for video; export CVAT for images 1.1")
    sheet = Sheet()
    for task in root.iterfind("meta/task/name"):
        sheet.made_for(task.text)
    for index, image in enumerate(root.iterfind("image")):
        place = f"image {image.get('id', index)}"
        if not image.get("name"):
            sheet.problems.append(f"{place}: has no name; export again")
            continue
        page = Page(image.get("name"), review="pending")
        try:
            page.size = tuple(number(image.get(side), side) for side in ("width", "height"))
        except ValueError as error:
            sheet.problems.append(f"{place}: {error}")
        for count, shape in enumerate(image, start=1):
            label = f"{place}, {shape.tag} {count}"
            try:
                if shape.tag == "tag":
                    page.review = REVIEW.get(shape.get("label"), page.review)
                else:
                    page.boxes.append((label, shape.get("label") or "", _box(shape)))
            except ValueError as error:
                sheet.problems.append(f"{label}: {error}")
        if page.review == "rejected":
            page.boxes = []
        sheet.pages.append(page)
    drop_reviews_if_unused(sheet.pages)
    return [sheet]


def _box(shape) -> list[float]:
    """[x, y, w, h] of a box, a polygon or an ellipse. Raises ValueError."""
    if number(shape.get("rotation") or 0, "rotation") % 360:
        raise ValueError("is rotated; draw it upright")
    if shape.tag == "box":
        x0, y0, x1, y1 = (number(shape.get(side), side) for side in ("xtl", "ytl", "xbr", "ybr"))
        box = [x0, y0, x1 - x0, y1 - y0]
    elif shape.tag == "ellipse":
        x, y, rx, ry = (number(shape.get(side), side) for side in ("cx", "cy", "rx", "ry"))
        box = [x - rx, y - ry, 2 * rx, 2 * ry]
    elif shape.tag == "polygon":
        points = [point.split(",") for point in (shape.get("points") or "").split(";")]
        if not all(len(point) == 2 for point in points):
            raise ValueError("its points are not x,y;x,y;...; export again")
        box = around([[number(value, "a coordinate") for value in point] for point in points])
    else:
        raise ValueError("is no box, polygon or ellipse; draw rectangles")
    return [round(value, 4) for value in box]
