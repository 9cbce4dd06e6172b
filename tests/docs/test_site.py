"""The site of `make docs`: what can be checked without MkDocs, and (slow) that it builds and holds everything."""

import ast
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted(path for folder in ("docs", "benchmarks") for path in (ROOT / folder).rglob("*.md"))]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
PACKAGE = ROOT / "osal_detectron2"


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^    .*$", "", text, flags=re.M))


@cache
def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_of_it(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.is_file(), f"{page.name}: no file for the link {link}"
        assert not anchor or anchor in anchors(path), f"{page.name}: no heading for the link {link}"


def paths(nav) -> list[str]:
    """The pages of a `nav` of MkDocs, in order."""
    if isinstance(nav, str):
        return [nav]
    return [path for part in (nav.values() if isinstance(nav, dict) else nav) for path in paths(part)]


def test_the_navigation_holds_every_page_once():
    assert sorted(paths(SITE["nav"])) == sorted(str(page.relative_to(ROOT)) for page in PAGES)


def test_the_api_pages_name_every_package_and_top_level_module_and_nothing_else():
    pages = "\n".join(page.read_text() for page in sorted((ROOT / "docs/api").glob("*.md")))
    parts = [p for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    names = {f"osal_detectron2.{p.stem}" for p in parts if not p.stem.startswith("_")} | {"osal_detectron2"}
    assert sorted(re.findall(r"^::: (\S+)$", pages, flags=re.M)) == sorted(names)


def public_names() -> set[str]:
    """Every class and function of the package that has a docstring and no underscore."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.stem == "__init__" or any(part.startswith("_") for part in parts):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found |= {".".join((*parts, node.name))} if ast.get_docstring(node) else set()
    return found


@pytest.mark.slow
def test_make_docs_builds_a_site_that_holds_all_and_asks_no_other_machine_for_anything(tmp_path):
    for name in ("osal_detectron2", "docs", "benchmarks", "configs", "requirements"):
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for path in [*TOP, *(ROOT / name for name in ("mkdocs.yml", "Makefile", "CITATION.cff"))]:
        shutil.copy(path, tmp_path)
    make = ["make", "docs", f"PYTHON={sys.executable}"]
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {page: page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    api = "".join(text for page, text in built.items() if page.parent.name == "api")
    assert not {name for name in public_names() if f'id="{name}"' not in api}
    for page, text in built.items():
        assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=.?(https?:)?//", text), page
        assert 'class="mermaid"' not in text, f"{page}: Material fetches Mermaid from a CDN"

    (tmp_path / "docs/training.md").write_text("# Training\n\n[a](strategies.md#no-such-heading)\n")
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "no-such-heading" in done.stdout + done.stderr
