"""The docs' table of strategies names every strategy. (test_pages.py runs the page's own strategy.)"""

import re
from pathlib import Path

from osal_detectron2.strategies import available, get_strategy

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "strategies.md").read_text()


def test_the_table_names_every_strategy_and_no_other():
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == available()


def test_the_table_says_what_each_strategy_costs():
    for line in (line for line in PAGE.splitlines() if line.startswith("| `")):
        cells = line.strip("|").split("|")
        for name in re.findall(r"`(\w+)`", cells[0]):
            cost = get_strategy(name).cost
            assert cells[-1].strip() == (
                ", ".join(f"{kind} {tiles}" for kind, tiles in cost.items()) or "none"
            ), name
