"""The set-up of a fresh machine: what it refuses, what it says, and that the pins fit together."""

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import Specifier

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "setup_environment.py"

spec = importlib.util.spec_from_file_location("setup_environment", SCRIPT)
setup_environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_environment)

Usage = namedtuple("Usage", "free")


def requirements(file, python):
    environment = dict(default_environment(), python_version=python)
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        if line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                yield requirement


@pytest.fixture
def one_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_environment.tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("one_disk")
def test_too_little_disk_names_folder_and_both_numbers(tmp_path):
    with pytest.raises(setup_environment.SetupError) as caught:
        setup_environment.check_disk(tmp_path / ".venv", disk_usage=lambda path: Usage(free=3.25e9))
    assert f"{tmp_path} has 3.2 GB free, but 9.5 GB are needed" in str(caught.value)


@pytest.mark.usefixtures("one_disk")
def test_what_is_installed_already_needs_no_disk_again(tmp_path):
    (tmp_path / ".venv").mkdir()
    with (tmp_path / ".venv" / "torch.so").open("wb") as file:
        file.truncate(int(6e9))  # sparse
    setup_environment.check_disk(tmp_path / ".venv", disk_usage=lambda path: Usage(free=3.25e9))


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0)])
def test_wrong_python_is_named_with_the_way_out(version):
    with pytest.raises(setup_environment.SetupError) as caught:
        setup_environment.check_interpreter(version)
    assert "is Python {}.{}.{}, but 3.10 to 3.13 is needed".format(*version) in str(caught.value)
    assert "PYTHON=" in str(caught.value)


def test_missing_venv_module_names_the_debian_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(setup_environment.SetupError, match="ensurepip.*apt install python3-venv"):
        setup_environment.check_interpreter((3, 11, 7))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "WARNING: Retrying ... NewConnectionError('...')\nERROR: No matching distribution found for x",
            "reached",
        ),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch===2.15.0", "index has no torch===2.15.0"),
        ("ERROR: Cannot uninstall distutils\nmore", "pip failed: ERROR: Cannot uninstall distutils"),
    ],
)
def test_failures_of_pip_are_told_apart(output, message):
    assert message in str(setup_environment.explain(output, Path("the.log")))


def test_without_an_index_one_message_and_nothing_counts_as_done(tmp_path):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environ.update(
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",  # nobody to wait for
    )
    command = [sys.executable, str(SCRIPT), "--venv", str(tmp_path / "venv")]
    for _ in range(2):  # the second run meets the half-made environment of the first
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        if "too little disk" in done.stderr:
            pytest.skip("this disk has no room for an environment")
        assert done.returncode == 1
        assert done.stderr.startswith("error: the package index cannot be reached.")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "venv" / "osal-setup-complete").exists()


def test_stamp_changes_with_python_and_pins(tmp_path, monkeypatch):
    (tmp_path / "base.txt").write_text("numpy==2.4.6\n")
    monkeypatch.setattr(setup_environment, "REQUIREMENTS", tmp_path)
    before = setup_environment.fingerprint((3, 11))
    assert before == setup_environment.fingerprint((3, 11))
    assert before != setup_environment.fingerprint((3, 12))
    (tmp_path / "base.txt").write_text("numpy==2.4.7\n")
    assert before != setup_environment.fingerprint((3, 11))


@pytest.mark.parametrize("loads", [False, True])
def test_opencv_is_replaced_only_where_it_does_not_load(tmp_path, monkeypatch, capsys, loads):
    (tmp_path / "cv2.py").write_text(
        "" if loads else "raise ImportError('libGL.so.1: cannot open shared object')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = setup_environment.Environment(tmp_path)
    environment.python = Path(sys.executable)
    calls = []
    environment.pip = lambda *arguments: calls.append(arguments)
    environment.mend_opencv()
    if loads:
        assert calls == []
    else:
        assert [call[0] for call in calls] == ["uninstall", "install"]
        version = {pin.name: pin.specifier for pin in requirements("base.txt", "3.11")}["opencv-python"]
        assert f"opencv-python-headless{version} " in Path(calls[1][-1]).read_text()
        assert "libGL.so.1" in capsys.readouterr().out


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_lock_has_every_pin_once_and_with_hashes(python):
    environment = dict(default_environment(), python_version=python, python_full_version=f"{python}.0")
    lock = {}
    for name, requirement in setup_environment.locked():
        pin, *hashes = requirement.replace("\\\n", "").split("--hash=sha256:")
        pin = Requirement(pin.strip())
        assert hashes and all(len(text.strip()) == 64 for text in hashes), name
        if pin.marker is None or pin.marker.evaluate(environment):
            assert name not in lock
            lock[name] = next(iter(pin.specifier))
    for pin in [*requirements("base.txt", python), *requirements("dev.txt", python)]:
        (specifier,) = pin.specifier
        assert specifier.operator in ("==", "===")
        assert lock.get(pin.name.lower()) == Specifier(f"=={specifier.version}"), "make lock"
    assert "triton" in lock  # torch's needs too


def wheel(folder, name, version, code):
    """Write a wheel, of one module, for CPython 3.10."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-cp310-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("detectron2/__init__.py", code)
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp310-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """An environment with pip alone, and no index but tmp_path / "index"."""
    environment = setup_environment.Environment(tmp_path / "venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.path], check=True)
    (site_packages,) = environment.path.glob("lib/python*/site-packages")
    (site_packages / "pip").symlink_to(importlib.metadata.distribution("pip").locate_file("pip"))
    for name, value in {
        "CONFIG_FILE": os.devnull,
        "NO_INDEX": "1",
        "FIND_LINKS": str(tmp_path / "index"),
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return environment


def test_a_tampered_repack_is_refused_and_its_own_bytes_are_not(bare, tmp_path, monkeypatch):
    path = wheel(tmp_path / "index", "sal_detectron2", "0.7.2", "print('the pinned one')")
    pinned = path.read_bytes()
    (tmp_path / "detectron2.txt").write_text(
        f"sal-detectron2==0.7.2 --hash=sha256:{hashlib.sha256(pinned).hexdigest()}\n"
    )
    wheel(tmp_path / "index", "sal_detectron2", "0.7.2", "print('another one')")
    with pytest.raises(setup_environment.OtherBytes) as caught:
        bare.install_detectron2()  # by the real pin
    monkeypatch.setattr(setup_environment, "REQUIREMENTS", tmp_path)
    with pytest.raises(setup_environment.OtherBytes) as caught:
        bare.install_detectron2()
    assert str(caught.value).startswith(f"sal-detectron2 was refused: file://{path} is not the file that")
    assert "pip config list" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(bare.path.glob("lib/python*/site-packages/detectron2"))
    path.write_bytes(pinned)
    bare.install_detectron2()
    assert bare.query("import detectron2") == "the pinned one"


def test_a_tampered_wheel_of_the_lock_is_refused_and_not_taken_for_a_missing_network(bare, tmp_path):
    wheel(tmp_path / "index", "setuptools", dict(setup_environment.locked())["setuptools"][12:19], "")
    (tmp_path / "index").rename(tmp_path / "x")
    with pytest.raises(setup_environment.SetupError, match="index cannot be reached"):
        bare.install_pinned()
    (tmp_path / "x").rename(tmp_path / "index")
    renamed = next((tmp_path / "index").iterdir())
    renamed.rename(renamed.with_name(renamed.name.replace("cp310", "py3")))
    with pytest.raises(setup_environment.OtherBytes, match="^setuptools was refused"):
        bare.install_pinned()


def test_pins_satisfy_what_the_package_asks_for():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for python in ("3.10", "3.12"):
        pinned = {pin.name: next(iter(pin.specifier)).version for pin in requirements("base.txt", python)}
        for requirement in map(Requirement, asked["dependencies"]):
            assert requirement.specifier.contains(pinned[requirement.name]), requirement
    dev = {pin.name for pin in requirements("dev.txt", "3.11")}
    assert dev == set(asked["optional-dependencies"]["dev"])
