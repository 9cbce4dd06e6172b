#!/usr/bin/env python
"""Write docs/api.md: every public class and function of the package with the first paragraph of its docstring.

Example:
    python tools/make_api_page.py            # writes docs/api.md
    python tools/make_api_page.py --check    # exit code 1 if the page is out of date

Reads the source and imports nothing.
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
HEAD = """# API

Made by `tools/make_api_page.py` from the docstrings; the full ones (shapes, units, errors, sources) are in the code.
"""


def first_paragraph(node: ast.AST) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.FunctionDef):
        return f"{node.name}({ast.unparse(node.args)})"
    return node.name


def section(path: Path) -> str:
    """The public names of one module; empty without any."""
    tree = ast.parse(path.read_text())
    entries = [
        f"- `{signature(node)}`: {first_paragraph(node)}"
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and ast.get_docstring(node)
    ]
    if not entries:
        return ""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return "\n".join([f"\n## {name}\n", first_paragraph(tree), "", *entries, ""])


def page() -> str:
    modules = sorted((ROOT / "osal_detectron2").rglob("*.py"))
    return HEAD + "".join(section(path) for path in modules if path.name != "__init__.py")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say whether docs/api.md is up to date")
    if parser.parse_args(argv).check:
        if PAGE.is_file() and PAGE.read_text() == page():
            return 0
        print("error: docs/api.md is out of date: run python tools/make_api_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
