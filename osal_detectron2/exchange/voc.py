"""Pascal VOC: an XML file a tile, boxes by their corners in pixels, the upper left corner of the tile at 0, 0.

(The original data set counts from 1; labelImg, CVAT and Label Studio write what we do.)
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from ..core.errors import DataError
from .batch import Request
from .files import number, place_of, write_texts, xml_of
from .sheet import Page, Sheet, batch_name

README = """\
1. Open the folder images in your tool, with Annotations as the folder of Pascal VOC files; classes.txt has the classes.
2. Correct the boxes of each tile, in the order of images.txt, and save.
3. Write the file_name of each tile that you have finished without a box into opened.txt, one a line.
4. YOUR_FILE is the folder Annotations, or the ZIP archive that your tool exports.
5. {import_command}
   The format has no word for "looked at": tiles with changed boxes count as done. For those without a box add
       --treat-empty-as empty --opened opened.txt
   and --accept-unchanged if tiles whose drafts were all right were reviewed.
"""


def write(request: Request, folder: Path) -> None:
    """Write Annotations/<key without suffix>.xml, the lists of classes and images.txt."""
    texts = {
        "classes.txt": "".join(f"{name}\n" for name in request.offered),
        "images.txt": "".join(f"images/{key}\n" for key in request.tiles),
        # What CVAT and datumaro ask for: the classes, and which files there are.
        "labelmap.txt": "# label:color_rgb:parts:actions\n"
        + "".join(f"{name}:::\n" for name in request.offered),
        "ImageSets/Main/default.txt": "".join(
            f"{PurePosixPath(key).with_suffix('')}\n" for key in request.tiles
        ),
    }
    for key, tile in request.tiles.items():
        root = ElementTree.Element("annotation")
        for tag, text in (("folder", "images"), ("filename", key)):
            ElementTree.SubElement(root, tag).text = text
        source = ElementTree.SubElement(root, "source")
        ElementTree.SubElement(source, "database").text = batch_name(request)
        size = ElementTree.SubElement(root, "size")
        for tag, value in (("width", tile.width), ("height", tile.height), ("depth", 3)):
            ElementTree.SubElement(size, tag).text = str(value)
        ElementTree.SubElement(root, "segmented").text = "0"
        for name, (x, y, w, h), score in tile.drafts:
            entry = ElementTree.SubElement(root, "object")
            for tag, text in (
                ("name", name),
                ("pose", "Unspecified"),
                ("truncated", "0"),
                ("difficult", "0"),
            ):
                ElementTree.SubElement(entry, tag).text = text
            box = ElementTree.SubElement(entry, "bndbox")
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h)):
                ElementTree.SubElement(box, tag).text = str(round(value, 4))
            if score is not None:
                attribute = ElementTree.SubElement(ElementTree.SubElement(entry, "attributes"), "attribute")
                ElementTree.SubElement(attribute, "name").text = "score"
                ElementTree.SubElement(attribute, "value").text = str(score)
        ElementTree.indent(root)
        path = f"Annotations/{place_of(key, 'or use COCO').with_suffix('.xml')}"
        if path in texts:
            raise DataError(
                f"tile {key}: another tile has its name but for the suffix; rename one, or use COCO"
            )
        texts[path] = ElementTree.tostring(root, encoding="unicode") + "\n"
    write_texts(folder, texts)


def read(files: Mapping[str, bytes], request: Request, where: str) -> list[Sheet]:
    """One sheet. A tile is named by <filename>. Raises DataError for what is no XML."""
    sheet = Sheet()
    found = {name: content for name, content in files.items() if name.lower().endswith(".xml")} or dict(files)
    for file, content in found.items():
        root = xml_of(content, where if len(found) == 1 else f"{where}: {file}")
        name = (root.findtext("filename") or "").strip()
        if root.tag != "annotation" or not name:
            sheet.problems.append(f"{file}: is not Pascal VOC (<annotation> with a <filename>); export again")
            continue
        if sheet.batch in (None, request.batch):
            sheet.made_for(root.findtext("source/database"))
        page = Page(name)
        try:
            page.size = tuple(
                number(root.findtext(f"size/{side}"), f"size/{side}") for side in ("width", "height")
            )
        except ValueError as error:
            sheet.problems.append(f"{file}: {error}")
        for count, entry in enumerate(root.iterfind("object"), start=1):
            place = f"{file}, object {count}"
            sides = ("xmin", "ymin", "xmax", "ymax")
            try:
                x0, y0, x1, y1 = (number(entry.findtext(f"bndbox/{side}"), side) for side in sides)
            except ValueError as error:
                sheet.problems.append(f"{place}: {error}")
                continue
            box = [round(value, 4) for value in (x0, y0, x1 - x0, y1 - y0)]
            page.boxes.append((place, (entry.findtext("name") or "").strip(), box))
        sheet.pages.append(page)
    return [sheet]
