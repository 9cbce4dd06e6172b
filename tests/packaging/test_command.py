"""`osal` out of the source archive and the wheel, and the files of tools/ in a clone that is not installed."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from programs import osal

from osal_detectron2 import __version__
from osal_detectron2.commands.main import COMMANDS
from osal_detectron2.core.spelling import TOOLS, spelled, typed

ROOT = Path(__file__).resolve().parents[2]
BUILD = "import setuptools.build_meta as b, sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"
# Each command's help by one process; starting one for each takes longer than all of them.
EVERY_HELP = """
import sys
from osal_detectron2.commands.main import COMMANDS, main
for name in COMMANDS:
    try:
        main([*name.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0, name
print("foreign:", sorted({m.partition(".")[0] for m in sys.modules} & {"numpy", "torch", "detectron2", "yaml"}))
"""


def run(words, folder, **environment):
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
    return subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)


def build(kind, source, folder):
    done = run([sys.executable, "-c", BUILD, f"build_{kind}", folder], source)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(source archive, wheel made of it, bin/ of an environment with the wheel and nothing else)."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "clone"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("osal_detectron2", "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    archive = build("sdist", source, folder)
    with tarfile.open(archive) as file:
        file.extractall(folder / "unpacked", filter="data")
    wheel = build("wheel", next((folder / "unpacked").iterdir()), folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "empty"], check=True)
    python = folder / "empty/bin/python"
    words = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    done = run(words, folder, PIP_DISABLE_PIP_VERSION_CHECK="1")
    assert done.returncode == 0, done.stderr
    return archive, wheel, folder / "empty/bin"


def modules(names, root):
    """The files of the package below the last `root` of each name."""
    return {name.rpartition(root)[2] for name in names if root in name and name.endswith((".py", ".yaml"))}


def test_archive_and_wheel_hold_the_whole_package_and_its_configs(installed):
    archive, wheel, _ = installed
    mine = {str(path.relative_to(ROOT / "osal_detectron2")) for path in ROOT.glob("osal_detectron2/**/*.py")}
    mine = {name for name in mine if not name.startswith("configs/")}
    configs = {f"configs/{path.relative_to(ROOT / 'configs')}" for path in ROOT.glob("configs/**/*.*")}
    configs = {name for name in configs if name.endswith((".py", ".yaml"))}
    with tarfile.open(archive) as file, zipfile.ZipFile(wheel) as packed:
        assert modules(file.getnames(), "/osal_detectron2/") == mine | configs
        assert modules(packed.namelist(), "osal_detectron2/") == mine | configs
        (metadata,) = [name for name in packed.namelist() if name.endswith("METADATA")]
        lines = packed.read(metadata).decode().splitlines()
    assert f"Version: {__version__}" in lines and "Requires-Dist: torch>=2.0" in lines
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text().splitlines()


def test_help_needs_nothing_and_starts_in_no_time(installed):
    bin_folder = installed[2]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        done = run([bin_folder / "osal", "--help"], bin_folder)
        seconds.append(time.perf_counter() - began)
    assert done.returncode == 0, done.stderr
    for name, (_, summary) in COMMANDS.items():
        assert any(line.split("  ")[1:2] == [f"osal {name}"] and summary in line for line in
                   done.stdout.splitlines())  # fmt: skip
    assert min(seconds) < 0.5, seconds
    done = run([bin_folder / "python", "-c", EVERY_HELP], bin_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: osal ") == len(COMMANDS) and "foreign: []" in done.stdout
    assert run([bin_folder / "osal", "--version"], bin_folder).stdout == f"osal_detectron2 {__version__}\n"


def test_what_is_missing_or_mistyped_is_one_line(installed):
    program = installed[2] / "osal"
    for words, said in (
        (
            ["run", "status", "."],
            "error: osal run status needs numpy, which this Python lacks (docs/install.md)",
        ),
        (["train", "--config-file", "x.yaml"], "error: osal_detectron2 needs detectron2, which"),
        (["run", "statsu"], "error: osal run statsu is no command; do you mean osal run status?"),
        (["xyz"], "error: osal xyz is no command; osal --help lists them"),
    ):
        done = run([program, *words], program.parent)
        assert done.returncode in (1, 2) and done.stderr.startswith(said), done.stderr
        assert "Traceback" not in done.stderr
    assert run([program, "run"], program.parent).returncode == 2


def test_the_installed_package_finds_its_configs_and_a_file_of_yours_goes_first(installed, tmp_path):
    code = "import sys; from osal_detectron2.core.shipped import find_config; print(find_config(sys.argv[1]))"
    words = [installed[2] / "python", "-c", code, "configs/NuCLS/osal_nd_3_4.yaml"]
    found = Path(run(words, tmp_path).stdout.strip())
    assert (
        found.is_absolute()
        and found.read_text() == (ROOT / words[-1]).read_text()
        and (found.parents[1] / "quickstart.yaml").is_file()
    )
    (tmp_path / "configs/NuCLS").mkdir(parents=True)
    (tmp_path / words[-1]).write_text("")
    assert run(words, tmp_path).stdout.strip() == words[-1]


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_of_a_clone_is_the_command_from_any_folder_without_installation(tmp_path, name):
    tool = ROOT / "tools" / TOOLS[name]
    done = run([sys.executable, "-S", tool, "--help"], tmp_path, COLUMNS="500")  # -S: no installed package
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python {tool} ") and "osal " not in done.stdout, done.stdout


def test_a_command_says_what_it_cannot_do_and_ends_quietly_in_a_pipe(tmp_path, capsys):
    assert osal("run", "status", tmp_path) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}")
    for words in (["--help"], ["run"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "osal_detectron2", *words]
        buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
        done = subprocess.run(
            command, cwd=ROOT, env=buffered, stdout=writer, stderr=subprocess.PIPE, text=True
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("program", "status", "train"),
    [
        ("/opt/bin/osal", "osal run status RUN", "osal train"),
        ("/opt/osal_detectron2/__main__.py", "osal run status RUN", "osal train"),
        (
            "../a clone/tools/al.py",
            "python '../a clone/tools/al.py' status RUN",
            "python '../a clone/tools/train_al.py'",
        ),
        ("my_train.py", "osal run status RUN", "python my_train.py"),
    ],
)
def test_hints_can_be_typed_where_they_are_read(monkeypatch, program, status, train):
    monkeypatch.setattr(sys, "argv", [program])
    assert spelled("osal run status RUN") == status and typed("train") == train


def test_the_package_reaches_for_nothing_in_tools():
    for path in (ROOT / "osal_detectron2").rglob("*.py"):
        assert '/ "tools"' not in path.read_text(), path
