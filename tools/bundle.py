#!/usr/bin/env python3
"""Collect every wheel that a machine without a network needs, into bundle/pyXY/. `make bundle` runs it.

--target is a Python version or an interpreter of the target machine's version. With --torch no the bundle
leaves out torch, torchvision and the CUDA libraries, for machines that have their own; with --have it leaves
out what the file lists, the target machine's `pip freeze`. Only files with the hashes of requirements/ get in, and
install.py takes only the wheels of SHA256SUMS. There (Linux x86-64): python3 install.py

Example: python3 tools/bundle.py --target 3.12 --torch no
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from install_bundle import sha256
from setup_environment import REQUIREMENTS, ROOT, SUPPORTED, OtherBytes, explain, locked

try:
    from packaging.markers import Marker
except ImportError:
    from pip._vendor.packaging.markers import Marker

VERSIONS = [f"{major}.{minor}" for major, minor in SUPPORTED]
TORCH = re.compile(r"torch|triton|nvidia-|cuda-")  # with what only torch asks for
SOURCE_ONLY = ("fvcore", "iopath", "antlr4-python3-runtime")
# What a manylinux wheel may be tagged with; pip wants every tag named.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(34, 4, -1)] + ["manylinux2014_x86_64"]


class BundleError(Exception):
    """The bundle cannot be made; the message is for the user."""


def normal(name):
    """Return a distribution's name in the spelling that package indexes compare."""
    return re.sub(r"[-_.]+", "-", name).lower()


def target_version(target):
    """Return "3.10" ... "3.13" from a version or an interpreter."""
    if not re.fullmatch(r"3\.\d+", target):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            target = subprocess.run(
                [target, "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise BundleError(
                f"{target!r} is neither a Python version such as 3.12 nor an interpreter"
            ) from error
    if target not in VERSIONS:
        raise BundleError(f"Python {target} is not supported; {', '.join(VERSIONS)} are")
    return target


def read_pins(version):
    """Return {name: requirement with its hashes} of everything pinned, the test tools too, for Python `version`.

    Markers are resolved here, because pip evaluates markers for the Python that it runs on.
    """
    target = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux"}
    target.update(platform_system="Linux", platform_machine="x86_64", implementation_name="cpython")
    pins = {}
    for name, requirement in locked():
        requirement, marker, hashes = re.fullmatch(
            r"([^ ;]+)(?: ; (.+?))?( \\\n(?s:.+))", requirement
        ).groups()
        if marker is None or Marker(marker).evaluate(target):
            pins[normal(name)] = requirement + hashes
    # A server has no libGL, which opencv-python loads.
    del pins["opencv-python"]
    pins["opencv-python-headless"] = (REQUIREMENTS / "opencv-headless.txt").read_text()
    return pins


def read_have(path):
    """Return the names in the output of `pip freeze` or `pip list`."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    return {normal(re.split(r"[\s=@;]", line.strip())[0]) for line in lines if line.strip()}


def pip(*arguments, pins=(), pythonpath=""):
    """Run pip, for the requirements `pins` if there are any; BundleError with one message when it fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command = [sys.executable, "-m", "pip", *arguments, *(["-r", file.name] if pins else [])]
        environ = {**os.environ, "PYTHONPATH": pythonpath} if pythonpath else None
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
        )
    if done.returncode:
        refused = explain(done.stdout, "")
        if isinstance(refused, OtherBytes):
            raise BundleError(str(refused))
        errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        raise BundleError(" ".join(errors[:2]) or done.stdout.strip()[-500:])


def build_own_wheel(build):
    """Build osal_detectron2's wheel from a clean copy: an old build/ would bring back deleted modules."""
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
            if (ROOT / name).exists():
                shutil.copy2(ROOT / name, temporary)
        shutil.copytree(ROOT / "osal_detectron2", Path(temporary) / "osal_detectron2")
        build(temporary)


def collect(folder, version, with_torch, have):
    """Fill `folder` with wheels for Python `version`, and with install.py."""
    pins = read_pins(version)
    if not with_torch:
        have = have | {"torch", "torchvision"}
    wanted = {name: requirement for name, requirement in pins.items() if name not in have}
    if "torch" not in wanted:
        wanted = {name: requirement for name, requirement in wanted.items() if not TORCH.match(name)}
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.whl"), *folder.glob("SHA256SUMS")]:
        old.unlink()
    source_only = [wanted.pop(name) for name in SOURCE_ONLY if name in wanted]
    with tempfile.TemporaryDirectory() as setuptools:  # the pinned one builds

        def build(*sources, pins=()):
            options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
            pip("wheel", *options, *sources, pins=pins, pythonpath=setuptools)

        pip("install", "--no-deps", "--target", setuptools, pins=[pins["setuptools"]])
        build_own_wheel(build)
        if source_only:
            build(pins=source_only)
    target = ["--only-binary=:all:", "--implementation=cp", "--no-deps", "--dest", str(folder)]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    pip("download", *target, *platforms, f"--python-version={version}", pins=wanted.values())
    # Tagged for CPython 3.10 alone; install.py unpacks it for every version.
    pip("download", *target, "--python-version=3.10", "-r", str(REQUIREMENTS / "detectron2.txt"))
    sums = [f"{sha256(wheel)}  {wheel.name}\n" for wheel in sorted(folder.glob("*.whl"))]
    (folder / "SHA256SUMS").write_text("".join(sums))
    shutil.copy2(ROOT / "tools" / "install_bundle.py", folder / "install.py")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default=sys.executable, help="3.12, or an interpreter")
    parser.add_argument("--torch", choices=("yes", "no"), default="yes", help="include torch (3 GB)")
    parser.add_argument("--have", metavar="FILE", help="`pip freeze` of the target machine")
    parser.add_argument("--out", type=Path, default=ROOT / "bundle", help="folder of the bundles")
    arguments = parser.parse_args(argv)
    try:
        version = target_version(arguments.target)
        folder = arguments.out / ("py" + version.replace(".", ""))
        have = read_have(arguments.have) if arguments.have else set()
        collect(folder, version, arguments.torch == "yes", have)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{folder}: {len(wheels)} wheels, {size:.0f} MB. On the target: python3 {folder.name}/install.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
