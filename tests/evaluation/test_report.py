import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from miniature_run import make_run
from PIL import Image

from osal_detectron2.core.errors import DataError
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.evaluation.report import compare_runs, draw_curves, format_table, write_report

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "report.py"
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
FILES = ("curve.csv", "curves.png", "summary.json")


def test_report_is_complete_and_the_same_when_written_again(tmp_path):
    run = make_run(tmp_path / "run")
    write_report(run)
    first = {name: (run / name).read_bytes() for name in FILES}
    summary = json.loads(first["summary.json"])
    assert summary["aulc_mAP50"] == pytest.approx((2 / 6 * 30 + 1 / 6 * 45) / (3 / 6))
    assert summary["final_mAP50"] == 50 and summary["final_labelled_tiles"] == 4
    assert summary["purity"] == 4 / 7 and summary["recall"] == 4 / 5
    assert Image.open(io.BytesIO(first["curves.png"])).width > 1000
    write_report(run)
    assert {name: (run / name).read_bytes() for name in FILES} == first


def test_report_can_be_written_at_every_stage_of_a_run(tmp_path):
    for stage, rounds in enumerate([(), ("init",), ("init", 0), ("init", 0, 1)]):
        run = make_run(tmp_path / str(stage), rounds=rounds)
        assert write_report(run)["rounds_evaluated"] == max(0, stage - 1)
        assert (run / "curves.png").exists() == (stage > 1)


def test_table_shows_every_round(tmp_path):
    lines = format_table(read_curve(make_run(tmp_path / "run"))).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["0", "1", "3", "0", "1.000", "20.00"],
        ["1", "3", "1", "3", "0.250", "40.00"],
        ["2", "4", "0", "0", "-", "50.00"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_runs_are_grouped_by_strategy_with_mean_and_sample_deviation(tmp_path):
    runs = [
        make_run(tmp_path / "a", seed=0, map50=(20.0, 40.0, 50.0)),
        make_run(tmp_path / "b", seed=1, map50=(20.0, 40.0, 54.0)),
        make_run(tmp_path / "c", strategy="random", map50=(20.0, 30.0, 40.0)),
    ]
    table = compare_runs(runs, tmp_path / "out")
    osal, random = table.splitlines()[2:]
    assert "52.00 ± 2.83" in osal  # 50 and 54: sd = sqrt(8)
    assert "40.00" in random and "±" not in random
    assert (
        (tmp_path / "out" / "comparison.csv").read_text().startswith("strategy,runs,aulc_mAP50,aulc_mAP50_sd")
    )
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_what_spoils_a_comparison_is_said(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    assert f"{b} repeats strategy, seed and data of {a}" in compare_runs([a, b], tmp_path / "out")
    half = make_run(tmp_path / "half", seed=1, rounds=("init", 0))
    assert "not all reached the same round" in compare_runs([a, half], tmp_path / "out")
    fold = make_run(tmp_path / "fold", dataset_sha256="1" * 64)
    assert "differ in their data sets" in compare_runs([a, fold], tmp_path / "out")


def test_runs_of_other_classes_are_refused_before_anything_is_written(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", known_classes=["tumor"])
    with pytest.raises(DataError, match="cannot be compared"):
        compare_runs([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_better_run_is_drawn_higher():
    def rows(value):
        return [
            {
                "round": r,
                "labelled_fraction": 0.1 + r / 10,
                "mAP50": value,
                "labelled_fraction_after_query": None,
            }
            for r in range(3)
        ]

    def height_of_line(value):
        # The anchor keeps the scale of the axis; it is drawn in the second colour.
        png = draw_curves({"a": [rows(value)], "anchor": [rows(100.0)]})
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        blue = np.abs(pixels - [0x00, 0x72, 0xB2]).sum(axis=2) < 30
        return np.bincount(np.nonzero(blue)[0]).argmax()

    assert height_of_line(80.0) < height_of_line(20.0)


def tool(*args):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True, env=ENV
    )


def test_tool_reports_one_run_and_compares_several(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", strategy="random")
    one = tool(a)
    assert one.returncode == 0 and "mAP50" in one.stdout and (a / "curve.csv").exists()
    assert not (b / "curve.csv").exists()
    both = tool(a, b, "--output", tmp_path / "out")
    assert both.returncode == 0 and "random" in both.stdout
    assert (b / "curve.csv").exists() and (tmp_path / "out" / "comparison.png").exists()


def test_tool_says_what_is_wrong_in_one_line_and_changes_nothing(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    (b / "rounds" / "000" / "labels.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    result = tool(a, b, "--output", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "000/labels.json" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
