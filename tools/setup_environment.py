#!/usr/bin/env python3
"""Make .venv: the pinned requirements, Detectron2 and this package. `make setup` runs it.

Safe to run again at any time: a finished environment is recognised in a moment and without a network, an
interrupted one is carried on with. Standard library only, and it starts on any Python 3, if only to say that
this one is too old. Every failure ends in one message that says what is wrong and what to do.

Example: python3 tools/setup_environment.py --venv .venv
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
DIRECT = ("-r", str(REQUIREMENTS / "base.txt"), "-r", str(REQUIREMENTS / "dev.txt"))
# The same, all that they bring along, and the sha256 of every file of each: pip refuses any other bytes.
LOCK = REQUIREMENTS / "lock.txt"
SUPPORTED = ((3, 10), (3, 11), (3, 12), (3, 13))
# Measured on Linux x86-64: the finished environment has 6.4 GB; pip's downloads, 2.8 GB, lie in the temporary
# folder until they are installed.
VENV_GB, DOWNLOAD_GB = 6.5, 3.0

# What pip prints when no index answers.
NO_INDEX = re.compile(
    r"NewConnectionError|NameResolutionError|Failed to establish a new connection|Temporary failure in name|"
    r"Name or service not known|Connection refused|Connection reset|Network is unreachable|timed out|"
    r"ProxyError|Max retries exceeded"
)
UNREACHABLE = (
    "the package index cannot be reached. Check the network, the proxy (HTTPS_PROXY) and pip's settings "
    "(pip config list), then run the same command again; it carries on. For a machine without any network "
    "see `make bundle` in docs/install.md."
)
# What pip prints for a file whose bytes are not the pinned ones.
OTHER_BYTES = re.compile(
    r"^ +(\S+?)(?:==\S+)?(?: from (\S+).*)?:\n(?:.*Expected.*\n(?:.* or .*\n)*) +Got +(\w+)", re.M
)


class SetupError(Exception):
    """The set-up cannot go on; the message is for the user."""


class OtherBytes(SetupError):
    """A downloaded file is not the pinned one."""


def check_interpreter(version=sys.version_info[:3]):
    """Raise SetupError unless this Python is a supported one and can make virtual environments."""
    if tuple(version[:2]) not in SUPPORTED:
        found = ".".join(str(part) for part in version)
        raise SetupError(
            f"{sys.executable} is Python {found}, but 3.10 to 3.13 is needed. "
            "Name another interpreter, e.g.: make setup PYTHON=python3.11"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise SetupError(
            f"{sys.executable} lacks the module {error.name}, so it cannot make a virtual environment. "
            "On Debian and Ubuntu: apt install python3-venv"
        ) from error


def check_disk(venv, disk_usage=shutil.disk_usage):
    """Raise SetupError when the environment, or pip's downloads meanwhile, do not fit on their disks."""
    place, temporary = venv.parent, Path(tempfile.gettempdir())
    present = sum(path.lstat().st_size for path in venv.rglob("*")) / 1e9 if venv.exists() else 0.0
    missing = max(VENV_GB - present, 0.0)
    downloads = min(DOWNLOAD_GB, missing)
    if place.stat().st_dev == temporary.stat().st_dev:
        needs = [(place, missing + downloads, "")]
    else:
        needs = [(place, missing, ""), (temporary, downloads, " for downloads (TMPDIR names another folder)")]
    for path, needed, purpose in needs:
        free = disk_usage(path).free / 1e9
        if free < needed:
            raise SetupError(
                f"too little disk: {path} has {free:.1f} GB free, but {needed:.1f} GB are needed{purpose}. "
                "Free some space and run the same command again."
            )


def explain(output, log):
    """Return the SetupError with the one message for a failed pip, from what it printed."""
    other = OTHER_BYTES.search(output)
    if other:
        return OtherBytes(
            f"{other.group(1)} was refused: {other.group(2) or 'its file'} is not the file that requirements/ pins "
            f"(its sha256 is {other.group(3)}). It was changed or built anew: take another index or mirror (pip "
            "config list) or empty pip's cache (pip cache purge), then run the same command again; it carries on."
        )
    return SetupError(reason(output, log))


def reason(output, log):
    """Return why pip failed and what to do, from what it printed."""
    if "No space left on device" in output:
        return (
            f"the disk is full: that of {ROOT} or of the temporary folder {tempfile.gettempdir()} (TMPDIR "
            "names another). Free some space and run the same command again; it carries on."
        )
    if NO_INDEX.search(output):
        return UNREACHABLE
    absent = re.search(r"No matching distribution found for (\S+)", output)
    if absent:
        return (
            f"the package index has no {absent.group(1)} for this Python and machine. A mirror may need an "
            f"update; Linux on x86-64 is what the pinned versions were chosen for. pip's output: {log}"
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or output.splitlines()[-3:]
    return "pip failed: {}\nAll of its output: {}".format(" ".join(errors[:3]), log)


def locked():
    """Return [(name, requirement)] of lock.txt, each with its marker and hashes, as pip reads it from a file."""
    pairs = re.findall(r"^(([\w.-]+)==(?:.*\\\n)*.*)$", LOCK.read_text(), re.MULTILINE)
    return [(name, requirement) for requirement, name in pairs]


def fingerprint(version):
    """Return the hash in a finished environment's stamp: of the pins, this script, Python and the folder."""
    digest = hashlib.sha256(f"{version} {ROOT}".encode())
    for path in [*sorted(REQUIREMENTS.glob("*.txt")), ROOT / "pyproject.toml", Path(__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class Environment:
    """The virtual environment at `path`; its pip writes to a log and shows the user the large downloads."""

    def __init__(self, path):
        self.path = path
        self.python = path / "bin" / "python"
        self.log = path / "osal-setup.log"

    def query(self, code):
        """Return what `code` prints in the environment, or None when it fails."""
        done = subprocess.run([str(self.python), "-c", code], capture_output=True)
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def version(self):
        """Return (major, minor), or None when there is no usable environment (yet)."""
        text = self.query("import pip, sys; print(*sys.version_info[:2])") if self.python.exists() else None
        return tuple(int(part) for part in text.split()) if text else None

    def create(self):
        """Make it, or mend one that was broken off, with the Python that runs this script."""
        command = [sys.executable, "-m", "venv", str(self.path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode or self.version() is None:
            output = done.stdout.decode(errors="replace").strip()
            raise SetupError(
                f"{' '.join(command)} failed; remove {self.path} and run the same command again. On Debian "
                f"and Ubuntu it needs: apt install python3-venv. It printed: {output}"
            )

    def pip(self, *arguments):
        """Run pip; SetupError with the one message when it fails."""
        command = [str(self.python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
        environ = dict(os.environ, PYTHONUNBUFFERED="1", PIP_PROGRESS_BAR="off")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        lines = []
        with self.log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(command, env=environ, **pipes)
            for raw in process.stdout:
                lines.append(raw.decode(errors="replace"))
                log.write(lines[-1])
                if re.search(r"Downloading .*\(\d{3,}(\.\d+)? MB\)|^Installing collected", lines[-1]):
                    print("   ", lines[-1].strip()[:100], flush=True)
            process.wait()
        if process.returncode:
            raise explain("".join(lines), self.log)

    def satisfied(self):
        """Tell, without a network, whether every pin is installed, whoever installed it."""
        arguments = ["--isolated", "install", "--no-index", "--no-deps", "--dry-run", *DIRECT]
        return (
            subprocess.run([str(self.python), "-m", "pip", *arguments], capture_output=True).returncode == 0
        )

    def install_pinned(self):
        """Install the pinned requirements from the package index."""
        first = self.path / "first"
        shutil.rmtree(str(first), ignore_errors=True)
        first.mkdir()
        (first / "setuptools.txt").write_text(dict(locked())["setuptools"])
        try:  # a small package first, without retries: no network shows in seconds, not after minutes
            self.pip(
                "download", "--no-deps", "--retries=0", f"--dest={first}", f"-r{first / 'setuptools.txt'}"
            )
        except OtherBytes:
            raise
        except SetupError as error:
            raise SetupError(UNREACHABLE) from error
        # fvcore, iopath and antlr4 are source-only: the pinned setuptools builds them.
        self.pip("install", "--no-index", *map(str, first.glob("setuptools-*")))
        shutil.rmtree(str(first))
        self.pip("install", "--no-build-isolation", "--use-pep517", "--require-hashes", f"-r{LOCK}")

    def install_detectron2(self):
        """Install the repack unless some Detectron2 is there already, e.g. one built from upstream."""
        for name in ("sal-detectron2", "detectron2"):
            if self.query(f"import importlib.metadata as m; m.version({name!r})") is not None:
                return
        arguments = ["--no-deps", "-r", str(REQUIREMENTS / "detectron2.txt")]
        if self.version() != (3, 10):
            # Tagged for CPython 3.10 for a compiled part that nothing here needs: install it as if for 3.10.
            purelib = self.query("import sysconfig; print(sysconfig.get_path('purelib'))")
            arguments += ["--only-binary=:all:", "--python-version=3.10", "--upgrade", f"--target={purelib}"]
        self.pip("install", *arguments)

    def mend_opencv(self):
        """Take opencv-python-headless instead of an opencv-python that lacks a system library (libGL)."""
        problem = self.query("try:\n    import cv2\nexcept ImportError as error:\n    print(error)")
        if not problem:
            return
        print(f"  opencv-python does not load ({problem}): taking opencv-python-headless instead")
        self.pip("uninstall", "-y", "opencv-python", "opencv-python-headless")
        self.pip("install", "--no-deps", "-r", str(REQUIREMENTS / "opencv-headless.txt"))

    def verify(self):
        """Raise SetupError unless Detectron2 can train here: half a package has slipped in, say."""
        done = subprocess.run([str(self.python), "-c", "import detectron2.engine"], capture_output=True)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise SetupError(f"{self.path} does not work; remove it and run the same command again. {last}")


def set_up(venv):
    """Bring the environment at `venv` to completion. Raises SetupError."""
    environment = Environment(venv)
    stamp = venv / "osal-setup-complete"
    version = environment.version()
    if version is None:
        check_interpreter()
        venv.parent.mkdir(parents=True, exist_ok=True)
        check_disk(venv)
        print(f"Making {venv} with Python {sys.version.split()[0]}", flush=True)
        environment.create()
        version = environment.version()
    if version not in SUPPORTED:
        raise SetupError(f"{venv} holds Python {version[0]}.{version[1]}; 3.10 to 3.13 is needed. Remove it.")
    if version != sys.version_info[:2]:
        print(f"Using {venv} as it is, with Python {version[0]}.{version[1]}; remove it for another version.")
    wanted = fingerprint(version)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not environment.satisfied():
        check_disk(venv)
        print(f"Installing about 60 packages, 3 GB to download; pip's output: {environment.log}", flush=True)
        environment.install_pinned()
    environment.install_detectron2()
    environment.mend_opencv()
    environment.pip("install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT))
    environment.verify()
    stamp.with_suffix(".partial").write_text(wanted)
    stamp.with_suffix(".partial").replace(stamp)
    print(f"{venv} is complete.", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the environment")
    try:
        set_up(Path(os.path.abspath(str(parser.parse_args(argv).venv))))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again, it carries on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
