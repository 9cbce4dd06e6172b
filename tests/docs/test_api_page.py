"""The API page is the one of this code."""

from pathlib import Path

import programs

ROOT = Path(__file__).resolve().parents[2]


def test_the_api_page_is_up_to_date():
    done = programs.run(["tools/make_api_page.py", "--check"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs/api.md").read_text()
    assert "## osal_detectron2.strategies.base" in page and "OpenSetCascadeROIHeads" in page
