"""Which images lie below a folder, and how large each is as everybody sees it. Only their headers are read."""

from pathlib import Path

from PIL import Image

from ..core.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_ORIENTATION = 274  # EXIF; from 5 on the picture lies on its side, and is turned when it is read


def images_below(folder: str | Path) -> list[Path]:
    """The images in `folder` and below, sorted, without hidden ones. Raises DataError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of images")
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not (paths := sorted(found)):
        raise DataError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    return paths


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, turned as EXIF says. Raises DataError for a file that is no image."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            on_its_side = picture.getexif().get(_ORIENTATION, 1) >= 5
    except Image.DecompressionBombError:
        raise DataError(f"{path}: too large to decode at once; cut it first with a slide reader") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the image cannot be read ({error}); replace or remove it") from None
    return (height, width) if on_its_side else (width, height)
