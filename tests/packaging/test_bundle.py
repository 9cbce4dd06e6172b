"""Bundles for machines without a network."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

spec = importlib.util.spec_from_file_location("bundle", ROOT / "tools" / "bundle.py")
bundle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bundle)


def test_pins_are_those_of_the_target_not_of_this_python():
    assert bundle.read_pins("3.10")["numpy"] == "numpy==2.2.6"
    assert bundle.read_pins("3.12")["numpy"] == "numpy==2.4.6"
    assert "tomli" in bundle.read_pins("3.10") and "tomli" not in bundle.read_pins("3.12")


def test_a_server_gets_the_headless_opencv():
    pins = bundle.read_pins("3.11")
    assert "opencv-python" not in pins
    assert pins["opencv-python-headless"].startswith("opencv-python-headless==")


def test_names_are_read_from_freeze_and_from_list(tmp_path):
    have = tmp_path / "have.txt"
    have.write_text("PyYAML==6.0\nmypy_extensions 1.0\ntorch @ file:///x.whl\n\n")
    assert bundle.read_have(have) == {"pyyaml", "mypy-extensions", "torch"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "3.9"], "Python 3.9 is not supported"),
        (["--target", "no-such-python"], "neither a Python version"),
        (["--target", "3.12", "--have", "no-such-file"], "no-such-file: No such file"),
    ],
)
def test_wrong_arguments_end_in_one_message(arguments, message, capsys, tmp_path):
    assert bundle.main([*arguments, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_target_may_be_an_interpreter():
    assert bundle.target_version(sys.executable) == "{}.{}".format(*sys.version_info[:2])


@pytest.mark.slow
def test_bundle_installs_without_an_index(tmp_path):
    version = "{}.{}".format(*sys.version_info[:2])
    done = subprocess.run(
        [sys.executable, ROOT / "tools/bundle.py", "--target", version, "--torch", "no", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    if "No matching distribution" in done.stderr:
        pytest.skip("no package index here")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / ("py" + version.replace(".", ""))
    assert not list(folder.glob("torch*")) and not list(folder.glob("nvidia*"))

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environ["PIP_CONFIG_FILE"] = os.devnull
    for _ in range(2):  # again: nothing left to do, nothing broken
        done = subprocess.run([python, folder / "install.py"], capture_output=True, text=True, env=environ)
        assert done.returncode == 0, done.stderr
    assert "without torch and torchvision" in done.stdout
    code = "import osal_detectron2.core, cv2, yacs, fvcore; from importlib.util import find_spec as find"
    code += "; assert find('detectron2')"
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
