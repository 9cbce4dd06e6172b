"""Bundles for machines without a network."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(ROOT / "tools"))

import bundle  # noqa: E402


def test_pins_are_those_of_the_target_not_of_this_python():
    assert bundle.read_pins("3.10")["numpy"].startswith("numpy==2.2.6 ")
    assert bundle.read_pins("3.12")["numpy"].startswith("numpy==2.4.6 ")
    assert "tomli" in bundle.read_pins("3.10") and "tomli" not in bundle.read_pins("3.12")


def test_a_server_gets_the_headless_opencv():
    pins = bundle.read_pins("3.11")
    assert "opencv-python" not in pins
    assert "opencv-python-headless==" in pins["opencv-python-headless"]


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


def test_a_bundle_takes_no_file_but_the_pinned_one(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "tabulate-0.10.0-py3-none-any.whl", "w") as file:
        file.writestr("tabulate.py", "print('mine')")
        file.writestr(
            "tabulate-0.10.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tabulate\nVersion: 0.10.0\n"
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(bundle.BundleError) as caught:
        bundle.pip(
            "download",
            "--no-deps",
            "--dest",
            str(tmp_path / "out"),
            pins=[bundle.read_pins("3.11")["tabulate"]],
        )
    assert str(caught.value).startswith("tabulate was refused: ") and "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out/*"))


def test_a_wheel_that_changed_after_bundling_is_not_installed(tmp_path, monkeypatch, capsys):
    import install_bundle

    installed = []
    monkeypatch.setattr(install_bundle, "FOLDER", tmp_path)
    monkeypatch.setattr(install_bundle, "install", lambda wheels, *options: installed.extend(wheels))
    whole, changed = tmp_path / "one_package-1-py3-none-any.whl", tmp_path / "another-2-py3-none-any.whl"
    for wheel in (whole, changed):
        wheel.write_bytes(wheel.name.encode())
    assert install_bundle.main([]) == 1 and "SHA256SUMS" in capsys.readouterr().err
    lines = [f"{install_bundle.sha256(wheel)}  {wheel.name}\n" for wheel in (whole, changed)]
    (tmp_path / "SHA256SUMS").write_text("".join(lines))
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    changed.write_bytes(b"x")
    assert install_bundle.main([]) == 1 and installed == []
    error = capsys.readouterr().err
    assert (
        error.startswith(f"error: {changed.name} is not the file that was bundled") and error.count("\n") == 1
    )
    (tmp_path / "SHA256SUMS").write_text("".join(lines[:1]))
    assert install_bundle.main([]) == 1 and "no such wheel" in capsys.readouterr().err
    changed.unlink()
    assert install_bundle.main([]) == 0 and installed == [whole]


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
