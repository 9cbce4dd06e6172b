"""The images of a campaign as they come: a folder, one slide, or a COCO file; and any part of them as pixels.

Slides, and pyramids that Pillow would decode whole, are read by OpenSlide, if it is installed (pip extra "slides").
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageOps

from ..core.errors import ConfigError, DataError
from ..data.coco_file import read_coco

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".svslide", ".bif")
LARGE = 60_000_000  # pixels; a TIFF above is opened as a slide


@dataclass
class Parent:
    """One image before it is cut.

    name: as it is called, with "/". group: the slide or patient that the file says, "" if none. boxes: (class name,
    (x, y, w, h) in pixels of the image, is a crowd) of a labelled image, None of one that nobody has labelled.
    """

    path: Path
    name: str
    width: int
    height: int
    group: str = ""
    boxes: list[tuple] | None = None
    slide: bool = False
    _open: Any = field(default=None, repr=False)

    def pixels(self, window: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
        """The part (x, y, w, h) of the image as RGB, at `size` (w, h). Raises DataError naming the file."""
        x, y, w, h = window
        try:
            if self._open is None:
                self._open = _openslide(self.path) if self.slide else _picture(self.path)
            if not self.slide:
                part = self._open.crop((x, y, x + w, y + h))
            else:
                level = self._open.get_best_level_for_downsample(w / size[0] + 1e-6)
                down = self._open.level_downsamples[level]
                region = self._open.read_region((x, y), level, (round(w / down), round(h / down)))
                part = Image.new("RGB", region.size, (255, 255, 255))
                part.paste(region, mask=region.getchannel("A"))
        except DataError:
            raise
        except Exception as error:  # OpenSlide and Pillow have many
            raise DataError(f"{self.path}: cannot be read ({error}); copy it again or remove it") from error
        return part if part.size == size else part.resize(size, Image.Resampling.BILINEAR)

    def close(self) -> None:
        """Forget the pixels."""
        self._open = None


def find_parents(images: str) -> tuple[list[Parent], dict | None]:
    """(the images, sorted by name; the parsed COCO file, if it is one). Raises DataError, ConfigError."""
    root = Path(images)
    if root.is_file() and root.suffix.lower() == ".json":
        data = read_coco(images)
        return [_of_coco(image, root.parent) for image in data["images"]], data
    if root.is_file():
        return [_parent(root, root.name)], None
    if not root.is_dir():
        raise DataError(f"--images {images}: no such folder or file")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURES + SLIDES and p.is_file())
    if not paths:
        raise DataError(f"--images {images}: no image in it ({', '.join(PICTURES + SLIDES)})")
    return [_parent(path, path.relative_to(root).as_posix()) for path in paths], None


def add_labels(parents: list[Parent], labelled: str) -> None:
    """Give the parents the boxes of the COCO file `labelled`; its images that are not among them are added.

    An image is the one of the same file_name; one without any annotation counts as not labelled. Raises DataError.
    """
    data, root = read_coco(labelled), Path(labelled).parent
    names = {category["id"]: category["name"] for category in data["categories"]}
    boxes: dict[int, list] = {}
    for entry in data["annotations"]:
        box = (names[entry["category_id"]], tuple(map(float, entry["bbox"])), bool(entry.get("iscrowd", 0)))
        boxes.setdefault(entry["image_id"], []).append(box)
    if not boxes:
        raise DataError(f"--labelled {labelled}: has no annotation; leave it out to begin from nothing")
    present = {parent.name: parent for parent in parents}
    for image in (image for image in data["images"] if image["id"] in boxes):
        parent = present.get(image["file_name"])
        if parent is None:
            parent = _of_coco(image, root)
            parents.append(parent)
        elif (parent.width, parent.height) != (image["width"], image["height"]):
            raise DataError(
                f"--labelled {labelled}: {image['file_name']} is {image['width']}x{image['height']} there and "
                f"{parent.width}x{parent.height} in --images; boxes would be misplaced"
            )
        parent.boxes = boxes[image["id"]]
    parents.sort(key=lambda parent: parent.name)


def _of_coco(image: Mapping, root: Path) -> Parent:
    parent = _parent(root / image["file_name"], PurePosixPath(image["file_name"]).as_posix())
    if (parent.width, parent.height) != (image["width"], image["height"]):
        raise DataError(
            f"{parent.path}: is {parent.width}x{parent.height} pixels, the JSON says {image['width']}x"
            f"{image['height']}; correct one of them"
        )
    parent.group = str(image.get("group") or "")
    return parent


def _parent(path: Path, name: str) -> Parent:
    """Look at the size alone."""
    slide = path.suffix.lower() in SLIDES
    if not slide:
        try:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            with Image.open(path) as picture:
                width, height = picture.size
                if picture.getexif().get(0x0112, 1) >= 5:  # lies on its side, and is turned when it is read
                    width, height = height, width
                slide = path.suffix.lower() in (".tif", ".tiff") and width * height > LARGE
        except FileNotFoundError:
            raise DataError(f"{path}: no such image; check the path") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); remove it or copy it again") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if slide:
        width, height = _openslide(path).dimensions
    return Parent(Path(os.path.abspath(path)), name, width, height, slide=slide)


def _openslide(path: Path) -> Any:
    try:
        import openslide
    except ImportError as error:
        raise ConfigError(
            f"{path}: a slide is read by OpenSlide; pip install 'osal_detectron2[slides]'"
        ) from error
    try:
        return openslide.OpenSlide(str(path))
    except (openslide.OpenSlideError, OSError) as error:
        raise DataError(f"{path}: OpenSlide cannot read it ({error}); copy it again or remove it") from error


def _picture(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")
