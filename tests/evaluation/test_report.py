import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import programs
import pytest
from miniature_run import KNOWN, make_run
from PIL import Image

from osal_detectron2.core.annotation_cost import AnnotationCost
from osal_detectron2.core.errors import DataError
from osal_detectron2.evaluation.compare import compare_runs
from osal_detectron2.evaluation.curves import draw_curves
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.evaluation.palette import LINE_COLORS, rgb
from osal_detectron2.evaluation.report import describe_run, write_report
from osal_detectron2.evaluation.table import format_table, gain

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "report.py"
FILES = ("curve.csv", "curves.png", "summary.json")


def test_report_is_complete_and_the_same_when_written_again(tmp_path):
    run = make_run(tmp_path / "run")
    write_report(run)
    first = {name: (run / name).read_bytes() for name in FILES}
    summary = json.loads(first["summary.json"])
    # The first number: mean mAP50 along the seconds, 24 to 63 to 105.
    assert summary["aulc_seconds"] == [24, 105]
    assert summary["aulc_mAP50_over_seconds"] == pytest.approx((39 * 30 + 42 * 45) / 81)
    assert summary["aulc_mAP50_over_minutes"] == summary["aulc_mAP50_over_seconds"], "an old key"
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
    lines = format_table(read_curve(make_run(tmp_path / "run")), KNOWN).splitlines()
    # round, minutes (15 s a tile, 3 s a nucleus), tiles, nuclei, mAP50, tumor, lymphocyte, A-OSE, purity
    assert [line.split() for line in lines[3:]] == [
        ["0", "0", "1", "3", "20.0", "20.0", "-", "10", "1.00"],
        ["1", "1", "3", "6", "40.0", "40.0", "-", "9", "0.25"],
        ["2", "2", "4", "10", "50.0", "50.0", "-", "8", "-"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert "tumor" in lines[1] and "lymphocyte" in lines[1]


LONG = ["tumor", "lymphocyte", "stromal", "plasma_cell", "macrophage", "endothelial cell", "mitotic_figure"]


@pytest.mark.parametrize("number", [1, 3, 5, 7])
def test_a_table_fits_a_terminal_and_cuts_no_name(number):
    names = (LONG * 2)[:number] if number < 8 else LONG
    row = {"round": 10, "labelled_tiles": 1234, "nuclei_annotated": 123456, "minutes_annotated": 12345.6,
           "mAP50": 50.0, "A-OSE": 1234, "purity": 0.5} | {f"AP50-{name}": 50.0 for name in names}  # fmt: skip
    table = format_table([row] * 12, names)
    assert max(map(len, table.splitlines())) <= 100
    if number > 5:
        assert all(name in table.split("\n\n")[1] for name in names), "a line for each class"
        return
    head, rule = table.split("\n-")[0].split("\n"), "-" + table.split("\n-")[1].split("\n")[0]
    spans = [(match.start(), match.end()) for match in re.finditer("-+", rule)]
    titles = ["".join(line[a:b].strip().rstrip("-") for line in head) for a, b in spans]
    assert titles[5:-2] == ["AP50" + name.replace("_", "").replace(" ", "") for name in names]


def test_the_end_of_a_run_says_in_a_sentence_what_was_gained(tmp_path):
    text = " ".join(describe_run(make_run(tmp_path / "run")).split())
    assert (
        "3 rounds: AULC over minutes 37.8, mAP50 20.0 -> 50.0 with 4 tiles, 10 nuclei, about 2 minutes of "
        "annotation; unknown nuclei taken for known (A-OSE) 10 -> 8." in text
    )
    rows = read_curve(make_run(tmp_path / "blind"))
    blind = [row | {"mAP50": None, "A-OSE": None, "minutes_annotated": 250} for row in rows]
    said = gain(blind)
    assert "4.2 hours" in said and "Not evaluated" in said and "0.0" not in said


def test_curves_say_what_is_on_their_axes_and_hide_no_marker(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    rows = read_curve(make_run(tmp_path / "run"))
    draw_curves({"osal_nd": [rows]})
    (figure,) = drawn
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert labels == {"labelled tiles (% of the training tiles)", "estimated time of annotation (minutes)"}
    assert all(axes.get_ylabel() for axes in figure.axes)
    for axes in figure.axes:
        top = max(line.get_ydata().max() for line in axes.lines)
        assert axes.get_ylim()[1] > 1.04 * top and all(not line.get_clip_on() for line in axes.lines)
        assert axes.get_legend() is None, "a legend in a panel lies on a line sooner or later"
    over_minutes = figure.axes[0].lines[0]
    assert list(over_minutes.get_xdata()) == pytest.approx([row["minutes_annotated"] for row in rows])
    assert list(over_minutes.get_ydata()) == [20, 40, 50]
    draw_curves({"osal_nd": [rows]}, unit="nuclei")
    below = drawn[1].axes[3]
    assert below.get_xlabel().startswith("nuclei annotated") and list(below.lines[0].get_xdata()) == [
        3,
        6,
        10,
    ]
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"AP50 tumor", "mAP50, mean of the classes"} <= names
    box = figure.legends[0].get_window_extent()
    assert box.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes)


def test_curves_without_a_test_set_are_drawn(tmp_path):
    rows = [row | {"mAP50": None, "A-OSE": None} for row in read_curve(make_run(tmp_path / "run"))]
    assert Image.open(io.BytesIO(draw_curves({"osal_nd": [rows]}))).width > 1000


def test_runs_are_grouped_by_strategy_with_mean_and_sample_deviation(tmp_path):
    runs = [
        make_run(tmp_path / "a", seed=0, map50=(20.0, 40.0, 50.0)),
        make_run(tmp_path / "b", seed=1, map50=(20.0, 40.0, 54.0)),
        make_run(tmp_path / "c", strategy="random", map50=(20.0, 30.0, 40.0)),
    ]
    table = compare_runs(runs, tmp_path / "out")
    osal, random = table.splitlines()[3:5]
    assert osal.split()[-4:-1] == ["4", "10", "2"] or "4 ± 0" in osal  # tiles, nuclei, minutes
    assert "52.00 ± 2.83" in osal  # 50 and 54: sd = sqrt(8)
    assert "40.00" in random and "±" not in random
    header = (tmp_path / "out" / "comparison.csv").read_text()
    assert header.startswith("strategy,runs,aulc_shared_minutes,aulc_shared_minutes_sd,aulc_mAP50,")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_runs_that_cost_differently_are_compared_over_the_minutes_that_both_have(tmp_path):
    """The dear run goes on to 10.5 minutes; the cheap one ends at 1.75, and has the higher mAP50 at any minute."""
    cheap, dear = make_run(tmp_path / "cheap", strategy="random"), make_run(tmp_path / "dear")
    costs = {cheap: AnnotationCost(15, 3), dear: AnnotationCost(90, 18)}
    text = compare_runs([cheap, dear], tmp_path / "out", costs)
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        lines = {row["strategy"]: row for row in csv.DictReader(file)}
    # osal_nd begins at 2.4 minutes, where random has ended: they share nothing, and no number is made up.
    assert lines["random"]["aulc_shared_minutes"] == "" and "which all runs have" not in text
    costs[dear] = AnnotationCost(30, 6)  # 0.8, 2.1 and 3.5 minutes; shared: 0.8 to 1.75
    text = compare_runs([cheap, dear], tmp_path / "out", costs)
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        lines = {row["strategy"]: row for row in csv.DictReader(file)}
    assert "the mean mAP50 from 0.8 to 1.8 minutes" in text
    random, osal = (float(lines[name]["aulc_shared_minutes"]) for name in ("random", "osal_nd"))
    at_end = 20 + 20 * (1.75 - 0.8) / (2.1 - 0.8)
    assert osal == pytest.approx((20 + at_end) / 2) and random > 35 > osal


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
                "minutes_annotated": 1.0 + r,
                "mAP50": value,
                "labelled_fraction_after_query": None,
            }
            for r in range(3)
        ]

    def height_of_line(value):
        # The anchor keeps the scale of the axis; it is drawn in the second colour.
        png = draw_curves({"a": [rows(value)], "anchor": [rows(100.0)]})
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        blue = (
            np.abs(pixels - rgb(LINE_COLORS[0])).sum(axis=2)[: len(pixels) // 2, : pixels.shape[1] // 3] < 30
        )
        return np.bincount(np.nonzero(blue)[0]).argmax()

    assert height_of_line(80.0) < height_of_line(20.0)


def tool(*args):
    return programs.run([TOOL, *args])


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
