"""The formats by name, which one a file has, and the way out: a folder with all that a tool needs to show a batch."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ..core.errors import ConfigError, DataError, OutputError
from ..core.ledger import Ledger
from ..core.spelling import spelled
from ..core.store import TEMPORARY_PREFIX
from . import coco, cvat, geojson, label_studio, voc, words, yolo
from .batch import Request, RequestedTile
from .files import copy_image, json_of, read_files, text, write_texts
from .sheet import Sheet, batch_name

# Each has README, write(request, folder) and read(files, request, where).
FORMATS: Mapping[str, ModuleType] = dict(
    zip(words.FORMATS, (coco, label_studio, cvat, geojson, yolo, voc), strict=True)
)


def read_sheets(path: str | Path, request: Request, format: str | None = None) -> list[Sheet]:
    """What is in a tool's file, folder or ZIP archive; `format`: told by the content if None.

    Raises DataError naming the file for one that cannot be read, ConfigError for a missing package. What is wrong with
    single tiles and boxes is in the sheets' problems.
    """
    where, files = str(path), read_files(path)
    if not files:
        raise DataError(f"{where}: holds no JSON, GeoJSON, XML or text file; import what the tool exported")
    return FORMATS[format or format_of(files, where)].read(files, request, where)


def format_of(files: Mapping[str, bytes], where: str) -> str:
    """The format of the content. Raises DataError for none that is known."""
    single = len(files) == 1
    for name, data in files.items():
        lower = name.lower()
        head = data[:4096]
        if lower.endswith(".geojson"):
            return "geojson"
        if lower.endswith(".json") or (single and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")):
            if (found := _json_format(json_of(data, where if single else f"{where}: {name}"))) or single:
                return found or "coco"  # whose reader says what is missing
        elif lower.endswith(".xml") or head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
            root = re.search(r"<(annotations?)[\s>/]", text(data, where if single else f"{where}: {name}"))
            if root:
                return "cvat" if root[1] == "annotations" else "voc"
    if any(name.lower().endswith(".txt") for name in files) and not single:
        return "yolo"
    raise DataError(
        f"{where}: is none of {', '.join(FORMATS)}; import what the tool exported (for yolo and voc the folder or the "
        "ZIP archive), or name the format with --format"
    )


def _json_format(content: object) -> str | None:
    if isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature"):
        return "geojson"
    if isinstance(content, dict):
        return "coco" if "images" in content else None
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and first.get("type") == "Feature":
        return "geojson"
    return "label-studio" if isinstance(first, dict) else None


def write_for_tool(
    request: Request, run: str | Path, format: str, out: str | Path, *, copy_images: bool = True
) -> Path:
    """Write the batch as `format` into the new folder `out`: the tool's file, its labels, the tiles and README.txt.

    All at once or not at all. Returns `out`. Raises ConfigError for an unknown format, OutputError where `out` has
    something in it or cannot be written, DataError for a tile that the format cannot name or whose image is missing.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format!r} is none of {', '.join(FORMATS)}")
    out = Path(os.path.abspath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out}: exists and is not empty; somebody may be at work in it: choose another folder"
        )
    temporary = out.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{out.name}")
    try:
        FORMATS[format].write(request, temporary / out.name)
        if copy_images:
            for key, tile in request.tiles.items():
                copy_image(_image_of(key, tile, run, request), temporary / out.name / "images", key)
        write_texts(temporary / out.name, {"README.txt": _readme(request, run, format, out)})
        if out.exists():
            out.rmdir()
        os.replace(temporary / out.name, out)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _image_of(key: str, tile: RequestedTile, run: str | Path, request: Request) -> Path:
    """The tile's file, or the copy that was put beside the batch (OSAL.ORACLE.COPY_IMAGES). Raises DataError."""
    copied = Ledger.open(run).round_dir(request.round_index) / "query" / "images" / key
    for path in (Path(tile.image), copied):
        if path.is_file():
            return path
    raise DataError(
        f"tile {key}: its image {tile.image or copied} is not on this computer; export with --no-images, put the tiles "
        "into the folder images yourself"
    )


def _readme(request: Request, run: str | Path, format: str, out: Path) -> str:
    command = spelled(f"osal run import {shlex.quote(str(run))} YOUR_FILE")
    fields = {
        "folder": str(out),
        "parent": str(out.parent),
        "name": batch_name(request),
        "import_command": f"{command} --annotator YOUR_NAME --dry-run",
        "import_plain": f"{command} --dry-run",
    }
    head = (
        f"{len(request.tiles)} tiles wait for labels (round {request.round_index}). Mark every nucleus with a box of "
        f"one of these classes:\n    {', '.join(request.offered)}\nThe boxes that you find are the model's draft. The "
        "most useful tiles come first. Keep the file names and the size of the images.\n\n"
    )
    return head + FORMATS[format].README.format(**fields) + "Then the same without --dry-run.\n"
