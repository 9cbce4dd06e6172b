"""A tool's file, folder or ZIP archive as bytes in memory: nothing is unpacked to disk, no name leads anywhere."""

from __future__ import annotations

import codecs
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..core.errors import ConfigError, DataError
from ..core.store import atomic_path, parse_json

SUFFIXES = (".json", ".geojson", ".xml", ".txt", ".yaml", ".yml", ".names")
MOST_BYTES, MOST_FILES = 512_000_000, 200_000
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
)


def read_files(path: str | Path) -> dict[str, bytes]:
    """{name with "/": content} of a file, of the texts in a folder, or of those in a ZIP archive.

    Raises DataError naming the file, for one that cannot be read, is too large, or has names that lead out of it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            _check_size(path, len(found), sum(p.stat().st_size for p in found))
            return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}
        _check_size(path, 1, path.stat().st_size)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path and your rights") from error
    return _unzipped(path) if content[:4] == b"PK\x03\x04" else {path.name: content}


def _check_size(path: Path, files: int, size: int) -> None:
    if files > MOST_FILES or size > MOST_BYTES:
        raise DataError(
            f"{path}: {files} files of {size / 1e6:.0f} MB, more than {MOST_FILES} or {MOST_BYTES / 1e6:.0f} MB; "
            "import the annotations alone, in parts"
        )


def _unzipped(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.filename.endswith("/")]  # is_dir fails on ""
            for member in members:
                if _leads_out(member.filename):
                    raise DataError(
                        f"{path}: holds {member.filename!r}, whose name leads out of the archive or cannot be written; "
                        "get it again from the tool"
                    )
            members = [m for m in members if PurePosixPath(m.filename).suffix.lower() in SUFFIXES]
            _check_size(path, len(members), sum(m.file_size for m in members))
            files = {}
            for member in members:
                if member.filename in files:
                    raise DataError(f"{path}: holds {member.filename!r} twice; get it again from the tool")
                with archive.open(member) as stream:
                    files[member.filename] = stream.read(member.file_size + 1)
            return files
    except _BROKEN_ZIP as error:
        raise DataError(
            f"{path}: is no complete ZIP archive without a password ({error}); get it again from the tool"
        ) from error


def _leads_out(name: str) -> bool:
    parts = re.split(r"[\\/]", name)
    return (
        ".." in parts or parts[0] == "" or parts[0].endswith(":") or any(ord(letter) < 32 for letter in name)
    )


def place_of(key: str, use: str) -> PurePosixPath:
    """The path of a tile below a folder. Raises DataError for a key that leads out of it or cannot be written."""
    if _leads_out(key) or not key:
        raise DataError(
            f"tile {key!r}: its name leads out of the folder or cannot be written; rename the tile, {use}"
        )
    return PurePosixPath(key)


def copy_image(source: Path, images: Path, key: str) -> None:
    """Copy one tile to `images`/<key>, once. A copy, no link: an edit must not reach the data set."""
    target = images / place_of(key, "or export without copies")
    if target.is_file():
        return
    try:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such image; check the image root") from error


def text(content: bytes, where: str) -> str:
    """Decode UTF-8, or UTF-16 that says so by its byte order mark. Raises DataError."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: is not UTF-8 text (byte {error.start}); save it in UTF-8 or get it again from the tool"
        ) from error


def json_of(content: bytes, where: str) -> object:
    """Parsed JSON. Raises DataError."""
    return parse_json(text(content, where), where)


def xml_of(content: bytes, where: str):
    """The root element of XML without a DTD, thus without entities of its own. Raises DataError."""
    tree = library("defusedxml.ElementTree", "CVAT and Pascal VOC files")
    try:
        return tree.fromstring(content, forbid_dtd=True)
    except tree.ParseError as error:
        raise DataError(f"{where}: is not complete XML ({error}); get it again from the tool") from error
    except (ValueError, LookupError) as error:  # a DTD, an entity, an encoding that is none
        raise DataError(
            f"{where}: is not plain XML ({type(error).__name__}); it needs UTF-8, no DTD and no entities: get it again "
            "from the tool"
        ) from error


def library(name: str, use: str):
    """A package of the extra "formats". Raises ConfigError that says how to install it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{use} need the package {name.partition('.')[0]}: pip install 'osal_detectron2[formats]', or "
            f"pip install {name.partition('.')[0]}"
        ) from error


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files below `folder`; names are relative, with "/"."""
    for name, content in texts.items():
        with (
            atomic_path(folder / name) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            file.write(content)


def number(value: object, what: str) -> float:
    """A finite float of a number or its text. Raises ValueError saying `what`."""
    try:
        result = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        result = float("nan")
    if not abs(result) < 1e15:
        raise ValueError(f"{what} is {str(value)[:40]!r}, not a number; correct it or export again")
    return result
