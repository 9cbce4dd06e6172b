"""One process at a time in a run folder, by a lock that the kernel takes back when the process dies."""

import contextlib
import json
import logging
import os
import socket
import time
import weakref
from pathlib import Path
from types import ModuleType
from typing import IO

from .errors import LedgerError, OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

# POSIX record locks belong to the process: a second lock in it would succeed, and closing *any* of its
# descriptors of the file gives the lock away. So a process remembers here what it holds, and reads no .lock.
_held: "weakref.WeakValueDictionary[str, RunLock]" = weakref.WeakValueDictionary()


class RunLock:
    """`with RunLock(output_dir): ...`, or acquire() and release().

    A record lock (`fcntl.lockf`) on `folder/.lock`: free again the moment its process is gone, however it
    went, and not kept alive by forked data-loading workers (a `flock` would be). The file names the holder
    and stays in place, empty, after a release. Only `withdraw` removes it; whoever gets a lock therefore looks whether
    its file still stands there, or two processes would lock two different files.
    The process that holds the lock must not open `.lock` (nor copy the whole folder): closing it gives the lock
    away, as POSIX has it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.path = self.folder / ".lock"
        self._file: IO[bytes] | None = None
        self._pid: int | None = None
        self._made: list[Path] = []  # what acquire() made, for withdraw()

    def acquire(self) -> "RunLock":
        """Take the lock. Raises LedgerError naming the holder, OutputError where nothing can be written."""
        name = os.path.realpath(self.path)
        holder = _held.get(name)
        if holder is not None and holder._pid == os.getpid():
            raise LedgerError(
                f"{self.folder}: this process already works in this folder; end that work first"
            )
        made = [path for path in (self.path, self.folder, *self.folder.parents) if not path.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what a forked worker inherits must not hold text that it would write again.
            file = open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "rb+", buffering=0)
        except OSError as error:
            _remove(made)
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); choose an OUTPUT_DIR where you may write"
            ) from error
        if fcntl is None:
            logger.warning(
                "No file locks on this system: make sure that nothing else works in %s", self.folder
            )
        else:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                owner = _describe(file.read())
                file.close()
                raise LedgerError(
                    f"{self.folder}: {owner} works in this folder; wait until it ends, stop it, or use "
                    "another OUTPUT_DIR (the lock goes away with the process: there is no file to delete)"
                ) from error
            except OSError as error:
                file.close()
                raise OutputError(
                    f"{self.path}: this file system gives no locks ({error.strerror}); use a local OUTPUT_DIR"
                ) from error
            if not _is_file_of(self.path, file):  # its holder has withdrawn it between our two steps
                file.close()
                return self.acquire()
        left = file.read()
        if left.strip():
            logger.warning("Recovered %s: %s ended without releasing it", self.folder, _describe(left))
        content = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, only without a name
            file.truncate(0)
            file.seek(0)
            file.write(json.dumps(content).encode())
        self._file, self._pid, self._made = file, os.getpid(), made
        _held[name] = self
        return self

    def release(self) -> None:
        """Give the lock back; nothing happens in a forked child, which never had it."""
        if self._file is None or self._pid != os.getpid():
            return
        _held.pop(os.path.realpath(self.path), None)
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        self._file.close()
        self._file = None

    def withdraw(self) -> None:
        """Release, and take away what acquire() made: the work was refused, and nothing has been written."""
        if self._file is None or self._pid != os.getpid():
            return
        if fcntl is not None:  # while it is held, so that nobody else can work in a folder that goes away
            _remove(self._made)
            self.release()
        else:  # Windows removes no open file
            self.release()
            _remove(self._made)

    def __enter__(self) -> "RunLock":
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


def _is_file_of(path: Path, file: IO[bytes]) -> bool:
    """Whether the open `file` still stands at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(made: list[Path]) -> None:
    """Remove the lock file and the folders, the innermost first, up to the first that is not empty."""
    with contextlib.suppress(OSError):
        for path in made:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def _describe(content: bytes) -> str:
    """Who wrote the content of a lock file, in words; half a content is no reason to fail."""
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']} (since {owner['started']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
