#!/usr/bin/env python3
"""Install the wheels beside this file into the Python that runs it, without a network.

tools/bundle.py copies this file into each bundle as install.py. What the Python has already, in whatever
version, stays as it is: a GPU machine's own torch, numpy and OpenCV above all. A wheel whose bytes are not those
of SHA256SUMS is refused. Run it with the target's interpreter, best that of a virtual environment.

Example: .venv/bin/python bundle/py312/install.py
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Always installed anew, the rest only where it is missing.
OWN = "osal-detectron2"
DETECTRON2 = "sal-detectron2"
# Distributions that bring the same module: any of them will do.
SAME_MODULE = {"opencv-python-headless": "cv2", DETECTRON2: "detectron2"}


def missing(name):
    if name in SAME_MODULE:
        return importlib.util.find_spec(SAME_MODULE[name]) is None
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


def sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def refused(wheels):
    """Return why one of `wheels` is not as it was bundled, or None."""
    try:
        lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    except OSError as error:
        return f"{FOLDER / 'SHA256SUMS'}: {error.strerror}. Copy the whole bundle again."
    sums = dict(reversed(line.split()) for line in lines)
    for wheel in wheels:
        found = sha256(wheel)
        if found != sums.get(wheel.name):
            wanted = sums.get(wheel.name, "no such wheel")
            return (
                f"{wheel.name} is not the file that was bundled (its sha256 is {found}, SHA256SUMS has {wanted}). "
                "Nothing was installed. Copy the bundle again, or make it anew."
            )
    return None


def install(wheels, *options):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *options]
    return subprocess.run([*command, *map(str, wheels)]).returncode


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    wheels = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower(): path for path in FOLDER.glob("*.whl")}
    chosen = {name: path for name, path in wheels.items() if name == OWN or missing(name)}
    problem = refused(chosen.values())
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    detectron2 = chosen.pop(DETECTRON2, None)
    code = install(chosen.values(), "--force-reinstall")
    if detectron2 and not code:
        # The wheel is tagged for CPython 3.10 for a compiled part that nothing here needs.
        purelib = sysconfig.get_path("purelib")
        as_if = ("--only-binary=:all:", "--python-version=3.10", "--upgrade", f"--target={purelib}")
        code = install([detectron2], *as_if)
    if code:
        print("error: pip failed, see above. Is the bundle for this Python version?", file=sys.stderr)
        return 1
    print(f"installed {len(chosen) + bool(detectron2)} of {len(wheels)} wheels into {sys.prefix}")
    lacking = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    if lacking:
        print(
            f"note: without {' and '.join(lacking)} this Python can query and exchange labels, but not train"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
