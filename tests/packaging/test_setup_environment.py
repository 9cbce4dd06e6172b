"""The set-up of a fresh machine: what it refuses, what it says, and that the pins fit together."""

import importlib.util
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

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


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 13, 0)])
def test_wrong_python_is_named_with_the_way_out(version):
    with pytest.raises(setup_environment.SetupError) as caught:
        setup_environment.check_interpreter(version)
    assert "is Python {}.{}.{}, but 3.10, 3.11 or 3.12".format(*version) in str(caught.value)
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
    assert message in setup_environment.explain(output, Path("the.log"))


def test_without_an_index_one_message_and_nothing_counts_as_done(tmp_path):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environ.update(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9/simple")
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
        version = setup_environment.pin("opencv-python")
        assert [call[0] for call in calls] == ["uninstall", "install"]
        assert calls[1][-1] == f"opencv-python-headless=={version}"
        assert "libGL.so.1" in capsys.readouterr().out


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_pin_is_exact_and_given_once_for_each_python(python):
    pins = [pin for file in ("base.txt", "dev.txt", "transitive.txt") for pin in requirements(file, python)]
    names = [pin.name.lower() for pin in pins]
    assert sorted(names) == sorted(set(names))
    assert {specifier.operator for pin in pins for specifier in pin.specifier} <= {"==", "==="}


def test_pins_satisfy_what_setup_py_asks_for(monkeypatch):
    import setuptools

    asked = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: asked.update(keywords))
    monkeypatch.chdir(ROOT)
    exec(compile((ROOT / "setup.py").read_text(), str(ROOT / "setup.py"), "exec"), {"__file__": "setup.py"})
    for python in ("3.10", "3.12"):
        pinned = {pin.name: next(iter(pin.specifier)).version for pin in requirements("base.txt", python)}
        for requirement in map(Requirement, asked["install_requires"]):
            assert requirement.specifier.contains(pinned[requirement.name]), requirement
    dev = {pin.name for pin in requirements("dev.txt", "3.11")}
    assert dev == set(asked["extras_require"]["dev"])
    # A folder of modules that setup.py does not find would be missing from every installed copy.
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "osal_detectron2").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} == set(asked["packages"])
