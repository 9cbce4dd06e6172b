#!/usr/bin/env python3
"""Run the smoke tests with other versions of Python, torch, numpy and Detectron2, each in a throw-away environment.

A combination is "name=version" words with commas between them; what it does not name is as in --base:
  numpy=1.26.4                         any package of the package index. Without python or torch among the words, the
                                       environment lies over --base and takes seconds and only what is named
  python=3.12                          another interpreter of this machine, or its path: everything is installed, 6.5 GB
  torch=2.1.2,numpy=1.26.4             another torch: likewise; the other versions are those that go with it
  detectron2=../detectron2             a plain checkout of upstream, not changed; with its compiled part if it has one
  detectron2=git+https://github.com/facebookresearch/detectron2.git   compiled against the torch of the environment
  base                                 --base itself

A combination that cannot be made here is a row of the table too, with the reason. Exit code 1 unless all passed.

Example: python tools/version_matrix.py --combination base --combination numpy=1.26.4
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from setup_environment import ROOT, Environment, SetupError

# What differs between versions: the names relied on, every kind of head and backbone, checkpoints, scoring, metrics,
# and a whole run in miniature. About two minutes on one core.
SMOKE = (
    "tests/packaging/test_compat.py",
    "tests/core",
    "tests/modeling",
    "tests/scoring",
    "tests/strategies/test_strategies.py",
    "tests/evaluation/test_open_set_coco.py",
    "tests/evaluation/test_open_set_reference.py",
    "tests/engine/test_variants.py::test_a_query_larger_than_the_pool_takes_the_rest_and_ends",
)
WHOLE = ("python", "torch", "torchvision")  # other versions of these go with other versions of everything
COLUMNS = ("combination", "python", "torch", "torchvision", "numpy", "detectron2", "_C", "result", "seconds")

VERSIONS = """
import importlib.metadata as m, json, platform
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
import torch, detectron2
try:
    import detectron2._C
    compiled = "yes"
except ImportError:
    compiled = "no"
found = {name: version(name) for name in ("torch", "torchvision", "numpy")}
source = version("sal-detectron2") and "sal-detectron2 " + version("sal-detectron2")
if "site-packages" not in detectron2.__path__[0]: source = "checkout"
found.update(python=platform.python_version(), detectron2=source or detectron2.__version__, _C=compiled)
print(json.dumps(found))
"""


def parse(text):
    """Return {name: version} of a combination. SetupError for a word that is not one."""
    if text in ("", "base"):
        return {}
    words = [word.partition("=") for word in text.split(",")]
    bad = [name for name, equals, value in words if not (name and equals and value)]
    if bad:
        raise SetupError(f"--combination {text}: write name=version words with commas, e.g. numpy=1.26.4")
    return {name: value for name, _, value in words}


def requirements():
    """Return what pyproject.toml asks for, tests included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


def make(versions, path, base):
    """Make the environment of a combination at `path`; return its Python. SetupError where it cannot be made."""
    if not versions:
        return base
    packages = [f"{name}=={v}" for name, v in versions.items() if name not in ("python", "detectron2")]
    whole = any(name in versions for name in WHOLE)
    interpreter = versions.get("python", str(base))
    if "/" not in interpreter:
        interpreter = f"python{interpreter}"
    environment = Environment(path)
    source = versions.get("detectron2", "repack")
    links = not packages and not whole and Path(source).is_dir()  # no pip, which takes longest to make
    command = [interpreter, "-m", "venv", *(["--without-pip"] if links else []), str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"there is no {interpreter} here that makes environments") from error
    if whole:
        environment.pip("install", "setuptools<81", "wheel")
        environment.pip("install", *packages, *requirements())
    elif packages:
        environment.pip("install", "--no-deps", *packages)
    site_packages = Path(environment.query("import sysconfig; print(sysconfig.get_path('purelib'))"))
    if Path(source).is_dir():
        link_checkout(Path(source).resolve(), path / "checkout")
        (site_packages / "a_detectron2.pth").write_text(f"{path / 'checkout'}\n")
    elif source != "repack":
        environment.pip("install", "--no-build-isolation", "--no-deps", source)
    elif whole:
        environment.install_detectron2()
    (site_packages / "c_root.pth").write_text(f"{ROOT}\n")
    if not whole:  # after pip is done, which must not take the packages of --base for its own
        found = Environment(base.parent.parent).query(
            "import sysconfig; print(sysconfig.get_path('purelib'))"
        )
        (site_packages / "b_base.pth").write_text(f"{found}\n")
    return environment.python


def link_checkout(source, folder):
    """Link the package detectron2 of a checkout in `folder`, and configs/ in it, as upstream's setup.py does.

    The checkout itself stays as it is. SetupError for a folder that is none.
    """
    package, configs = source / "detectron2", source / "configs"
    if not (package / "__init__.py").is_file():
        raise SetupError(f"{source} is no checkout of Detectron2: it has no detectron2/__init__.py")
    ignore = shutil.ignore_patterns("configs", "__pycache__")
    shutil.copytree(package, folder / "detectron2", copy_function=os.symlink, ignore=ignore)
    if configs.is_dir():
        (folder / "detectron2" / "model_zoo").mkdir(exist_ok=True)
        (folder / "detectron2" / "model_zoo" / "configs").symlink_to(configs)


def smoke(python, tests, log):
    """Run `tests` with `python`, output to the file `log`; return the cells of the row."""
    environ = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    environ.pop("PYTHONPATH", None)
    options = {"cwd": ROOT, "env": environ}
    done = subprocess.run([str(python), "-c", VERSIONS], capture_output=True, text=True, **options)
    if done.returncode:
        raise SetupError(f"Detectron2 does not import: {done.stderr.strip().splitlines()[-1]}")
    row = json.loads(done.stdout.splitlines()[-1])
    report = log.with_suffix(".xml")
    words = [str(python), "-m", "pytest", "-m", "not slow and not gpu", "-p", "no:cacheprovider"]
    with log.open("w") as output:
        subprocess.run(
            [*words, f"--junitxml={report}", *tests], stdout=output, stderr=subprocess.STDOUT, **options
        )
    if not report.exists():
        raise SetupError(f"pytest did not run: {log.read_text().strip().splitlines()[-1]}")
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    row["result"] = f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped"
    row["seconds"] = str(round(float(suite.get("time"))))
    return row


def passed(row):
    """True where tests ran and none failed."""
    return " 0 failed," in row["result"] and not row["result"].startswith("0 ")


def table(rows):
    """Return the rows as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value):
    return " ".join(str(value or "").replace("|", "/").split())


def run(combination, base, tests, logs):
    """Return the row of one combination; its environment is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="osal-matrix-"))
    log = logs / f"{combination.replace('/', '_').replace(':', '_')}.log"
    try:
        python = make(parse(combination), folder / "venv", base)
        return {"combination": combination, **smoke(python, tests, log)}
    except SetupError as error:
        return {"combination": combination, "result": f"could not be run: {error}"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--combination", action="append", metavar="NAME=VERSION,...", help="may be given several times"
    )
    parser.add_argument("--base", type=Path, default=ROOT / ".venv/bin/python", help="Python to start from")
    parser.add_argument("--tests", nargs="+", default=SMOKE, help="instead of the smoke tests")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "output/version_matrix.md", help="the table; logs lie beside it"
    )
    args = parser.parse_args(argv)
    logs = args.out.parent / f"{args.out.stem}_logs"
    logs.mkdir(parents=True, exist_ok=True)
    rows = []
    for combination in args.combination or ["base", "numpy=1.26.4"]:
        print(f"{combination} ...", flush=True)
        rows.append(run(combination, Path(os.path.abspath(args.base)), args.tests, logs))
        print(f"  {rows[-1]['result']}", flush=True)
        args.out.write_text(table(rows))
    print(f"\n{table(rows)}\n{args.out}, output of pytest in {logs}")
    return 0 if all(map(passed, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
