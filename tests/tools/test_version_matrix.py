"""The matrix of versions: what it makes, what it refuses, what its table says."""

import sys
from pathlib import Path

import programs
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import version_matrix  # noqa: E402
from setup_environment import SetupError  # noqa: E402


@pytest.mark.parametrize(
    "text, versions",
    [
        ("base", {}),
        ("numpy=1.26.4", {"numpy": "1.26.4"}),
        ("python=3.12,torch=2.1.2", {"python": "3.12", "torch": "2.1.2"}),
        (
            "detectron2=git+https://example.org/d2.git@main",
            {"detectron2": "git+https://example.org/d2.git@main"},
        ),
    ],
)
def test_a_combination_is_words_with_versions(text, versions):
    assert version_matrix.parse(text) == versions


@pytest.mark.parametrize("text", ["numpy", "numpy=", "=1", "numpy=1,,torch=2"])
def test_other_words_are_refused_with_an_example(text):
    with pytest.raises(SetupError, match="numpy=1.26.4"):
        version_matrix.parse(text)


@pytest.fixture
def suite(tmp_path):
    """Two tests, of which one fails."""
    path = tmp_path / "test_two.py"
    path.write_text("def test_good(): pass\ndef test_bad(): assert False\n")
    return path


def test_a_row_holds_what_was_found_and_a_failure_is_exit_code_1(suite, tmp_path):
    import torch

    out = tmp_path / "table.md"
    words = [
        "--base",
        programs.python(),
        "--combination",
        "base",
        "--combination",
        "python=2.0",
        "--out",
        str(out),
    ]
    assert version_matrix.main([*words, "--tests", str(suite)]) == 1
    head, _, here, absent = out.read_text().splitlines()
    row = dict(zip(head.split(" | "), here.split(" | ")))
    assert (
        row["result"] == "1 passed, 1 failed, 0 skipped"
        and row["torch"] == torch.__version__.partition("+")[0]
    )
    assert "could not be run: there is no python2.0" in absent
    assert "assert False" in (tmp_path / "table_logs" / "base.log").read_text()


def test_all_passed_is_exit_code_0(tmp_path):
    suite = tmp_path / "test_one.py"
    suite.write_text("def test_good(): pass\n")
    words = ["--base", programs.python(), "--combination", "base", "--out", str(tmp_path / "t.md")]
    assert version_matrix.main([*words, "--tests", str(suite)]) == 0


def test_a_layered_environment_sees_the_named_checkout_first_and_the_base_behind_it(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "detectron2" / "model_zoo").mkdir(parents=True)
    (checkout / "detectron2" / "__init__.py").write_text("__version__ = 'mine'\n")
    (checkout / "detectron2" / "model_zoo" / "__init__.py").write_text("")
    (checkout / "configs").mkdir()
    (checkout / "configs" / "a.yaml").write_text("A: 1\n")
    before = sorted(checkout.rglob("*"))
    python = version_matrix.make({"detectron2": str(checkout)}, tmp_path / "venv", Path(sys.executable))
    code = (
        "import os, importlib.util, detectron2, detectron2.model_zoo as zoo; folder = os.path.dirname(zoo.__file__); "
        "torch, = importlib.util.find_spec('torch').submodule_search_locations; "
        "print(detectron2.__version__, torch, open(folder + '/configs/a.yaml').read())"
    )
    done = version_matrix.Environment(tmp_path / "venv").query(code)
    import torch

    # The model zoo's configs are where upstream's setup.py would have put them, and the checkout is as it was.
    assert done == f"mine {torch.__path__[0]} A: 1" and str(python).startswith(str(tmp_path))
    assert sorted(checkout.rglob("*")) == before
    with pytest.raises(SetupError, match="no checkout of Detectron2"):
        version_matrix.link_checkout(tmp_path, tmp_path / "other")


@pytest.mark.parametrize(
    "result, good",
    [
        ("3 passed, 0 failed, 1 skipped", True),
        ("0 passed, 0 failed, 3 skipped", False),
        ("2 passed, 1 failed, 0 skipped", False),
        ("2 passed, 10 failed, 0 skipped", False),
        ("could not be run: x", False),
    ],
)
def test_what_counts_as_passed(result, good):
    assert version_matrix.passed({"result": result}) is good


def test_the_smoke_tests_exist():
    for test in version_matrix.SMOKE:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists() and (not name or f"def {name}(" in (ROOT / path).read_text())


def test_requirements_are_those_of_the_package_with_the_tests():
    names = version_matrix.requirements()
    assert "numpy>=1.23" in names and "pytest" in names and "timm" in names
