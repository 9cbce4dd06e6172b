"""The strategy that the docs show runs as they say, and their table names every strategy."""

import os
import re
import subprocess
import sys
from pathlib import Path

from osal_detectron2.strategies import available, get_strategy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "strategies.md").read_text()


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


def test_the_example_is_a_strategy_that_the_tool_runs(tmp_path):
    example = re.search(r"```python\n(.*?)```", PAGE, flags=re.S).group(1)
    script = tmp_path / "my_train.py"
    script.write_text(example)
    data = tmp_path / "data"
    make = [sys.executable, "tools/make_synthetic.py", "--out", str(data), "--tiles", "16", "--size", "96"]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    options = {
        "OSAL.STRATEGY": "my_entropy",
        "OSAL.DATA.TRAIN_JSON": data / "annotations/random_fold1_train.json",
        "OSAL.DATA.TRAIN_IMAGE_ROOT": data / "rgb",
        "OSAL.DATA.TEST_JSON": data / "annotations/random_fold1_test.json",
        "OSAL.DATA.TEST_IMAGE_ROOT": data / "rgb",
        "OSAL.BUDGET.INIT_TILES": 3,
        "OSAL.BUDGET.QUERY_TILES": 2,
        "OSAL.BUDGET.NUM_QUERIES": 1,
        "OSAL.SCHEDULE.EPOCHS": 0.0,
        "OSAL.SCHEDULE.MIN_ITERS": 2,
        "SOLVER.IMS_PER_BATCH": 2,
        "OUTPUT_DIR": tmp_path / "run",
    }
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run(
        [sys.executable, str(script), "--config-file", "configs/quickstart.yaml", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    selection = (tmp_path / "run/rounds/000/selection.json").read_text()
    assert '"my_entropy"' in selection and "mean entropy" in selection
