"""Files that are either whole or absent: written beside their place, synced, then renamed into it."""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError, OutputError

# Kept in front: matplotlib and others go by the suffix.
TEMPORARY_PREFIX = ".osal-tmp-"

_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "free space on that disk, then run again",
    errno.EDQUOT: "your quota on that disk is used up: free space, then run again",
    errno.EFBIG: "the file would exceed the size limit that is set for this process (ulimit -f): raise it",
    errno.EROFS: "that disk is read-only: choose another OUTPUT_DIR",
    errno.EACCES: "you may not write there: choose another OUTPUT_DIR or ask for the right to write",
    errno.EPERM: "you may not write there: choose another OUTPUT_DIR or ask for the right to write",
    errno.EEXIST: "a part of that path is a file, not a folder: choose another OUTPUT_DIR",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another OUTPUT_DIR",
    errno.EISDIR: "a folder has that name: rename it or choose another OUTPUT_DIR",
}


def _output_error(path: Path, error: OSError) -> OutputError:
    remedy = _REMEDIES.get(error.errno, "check the disk and the path, then run again")
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")


def _fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can sync folders (Windows cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """For libraries that write files themselves: `with atomic_path(p) as t: figure.savefig(t)`.

    Yields a temporary path with the suffix of `path`, in its folder (made if missing). When the block ends
    well, the file is synced and takes the place of `path`; otherwise it is removed and `path` is untouched.
    Raises OutputError, naming `path` and the remedy, where the disk refuses. A library that hides the
    operating system's error passes through with its own (give torch.save an open file, not the path).
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        named = {str(name) for name in (error.filename, error.filename2) if name is not None}
        if named - {str(temporary), str(path)} and not any(str(path).startswith(name) for name in named):
            raise  # the block failed on some other file, e.g. one that it reads
        raise _output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # gone already after a rename


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically; folders are made. Raises OutputError."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def write_json(path: str | Path, obj: object) -> None:
    """Write JSON that is the same for the same content: sorted keys, indent 1, no NaN.

    Raises ValueError (NaN, infinity) or TypeError (not JSON) before anything is written; OutputError.
    """
    write_bytes(path, (json.dumps(obj, sort_keys=True, indent=1, allow_nan=False) + "\n").encode())


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Write an .npz that `np.load(path, allow_pickle=False)` reads; same content, same bytes, same SHA-256.

    Uncompressed, members sorted, timestamps fixed. Raises ValueError for object arrays; OutputError.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(arrays[name]), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    write_bytes(path, buffer.getvalue())


def read_json(path: str | Path) -> Any:
    """The content of a JSON file (UTF-8, byte order mark allowed). Raises DataError naming the file."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path and your rights"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text (byte {error.start}); save it as JSON in UTF-8"
        ) from error
    return parse_json(text, path)


def parse_json(text: str, source: str | Path) -> Any:
    """The content of JSON; `source` is the file named in a DataError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        where = "nested too deep" if isinstance(error, RecursionError) else str(error)
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}: {error.msg}"
        raise DataError(f"{source}: is not complete JSON ({where}); restore it or write it again") from error


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises DataError naming the file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it from a copy") from error
    return digest.hexdigest()


def clean_temporary(folder: str | Path) -> list[Path]:
    """Remove what a killed process left half written anywhere below `folder`; call it with the lock held."""
    leftovers = sorted(Path(folder).rglob(f"{TEMPORARY_PREFIX}*"))
    for path in leftovers:
        try:
            path.unlink()
        except OSError as error:
            raise _output_error(path, error) from error
    return leftovers
