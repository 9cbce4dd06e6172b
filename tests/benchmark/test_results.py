"""Cell files are read whole, checked, and averaged over what they share."""

import json
import math

import pytest
from cell_files import make_cell

from osal_detectron2.benchmark.results import by_setting, mixtures, read_cells
from osal_detectron2.core.errors import DataError
from osal_detectron2.evaluation.learning_curve import mean_and_spread, mean_curve


def test_a_cell_tells_area_purity_and_passes(tmp_path):
    make_cell(tmp_path)
    (cell,) = read_cells(tmp_path)
    assert cell.aulc == pytest.approx(30.0)  # (0.2 * 25 + 0.2 * 35) / 0.4
    assert cell.final_mAP50 == 40.0
    assert cell.purity == pytest.approx(0.8)
    assert cell.passes == 2 * (90 + 30)
    # Each query stands where its tiles bring the detector; the last round asks for none.
    assert cell.column("labelled_fraction_after_query") == pytest.approx({0: 0.3, 1: 0.5})


def test_a_recorded_area_is_kept_and_a_single_point_has_none(tmp_path):
    make_cell(tmp_path, aulc=33.0)
    make_cell(tmp_path, "full", maps=(50.0,), aulc=50.0)
    full, osal = read_cells(tmp_path)
    assert (osal.aulc, full.aulc, full.final_mAP50) == (33.0, None, 50.0)
    assert full.purity is None and full.passes is None


def test_missing_columns_are_coped_with(tmp_path):
    path = make_cell(tmp_path)
    content = json.loads(path.read_text())
    for row in content["rounds"]:
        for key in ("purity", "passes", "seconds", "known_annotated"):
            row.pop(key, None)
    content["rounds"][1]["mAP50"] = None
    path.write_text(json.dumps(content))
    (cell,) = read_cells(tmp_path)
    assert cell.column("purity") == pytest.approx({0: 0.8, 1: 0.8})  # worked out from the counts
    assert cell.column("mAP50") == {0: 20.0, 2: 40.0} and cell.passes is None


def test_a_mean_curve_covers_the_rounds_that_all_cells_share(tmp_path):
    make_cell(tmp_path, seed=0, maps=(20.0, 30.0, 40.0))
    make_cell(tmp_path, seed=1, maps=(22.0, 36.0))
    curve = mean_curve([cell.rounds for cell in read_cells(tmp_path)], "labelled_fraction", "mAP50")
    assert [point[1] for point in curve] == [21.0, 33.0]
    assert curve[1][0] == pytest.approx(0.3) and curve[1][2] == pytest.approx(math.sqrt(18))
    assert mean_and_spread([5.0, None]) == (5.0, None) and mean_and_spread([None]) == (None, None)


def test_settings_come_with_few_unknown_classes_first(tmp_path):
    make_cell(tmp_path, setting="a_2+5", unknown_classes=list("abcde"))
    make_cell(tmp_path, setting="b_5+2", unknown_classes=list("ab"))
    assert list(by_setting(read_cells(tmp_path))) == ["b_5+2", "a_2+5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "osal-cell/9"}, "schema is 'osal-cell/9'"),
        ({"schema": "DROP"}, "schema is None"),
        ({"train_tiles": "DROP"}, 'key "train_tiles"'),
        ({"seed": "zero"}, 'key "seed"'),
        ({"rounds": [{"round": 0}]}, "rounds[0] lacks"),
    ],
)
def test_a_bad_file_is_named(tmp_path, changes, message):
    make_cell(tmp_path, "random")
    path = make_cell(tmp_path, **changes)
    with pytest.raises(DataError) as error:
        read_cells(tmp_path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_damaged_json_duplicates_and_foreign_classes_are_named(tmp_path):
    path = make_cell(tmp_path)
    copy = tmp_path / "copy.json"
    copy.write_text(path.read_text())
    with pytest.raises(DataError, match=r"copy\.json.*are both osal_nd in 5\+2, fold 0, seed 0"):
        read_cells(tmp_path)
    copy.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match="copy.json: is not complete JSON"):
        read_cells(tmp_path)
    copy.unlink()
    make_cell(tmp_path, "random", known_classes=["tumor"])
    with pytest.raises(DataError, match="known classes are not those of"):
        read_cells(tmp_path)


def test_a_choice_that_no_file_has_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no cell file"):
        read_cells(tmp_path)
    make_cell(tmp_path)
    make_cell(tmp_path, "random")
    assert [cell.method for cell in read_cells(tmp_path, methods=["random"])] == ["random"]
    with pytest.raises(DataError, match="--methods cald.*osal_nd, random"):
        read_cells(tmp_path, methods=["cald"])


def test_mixtures_are_said_once_and_a_clean_grid_says_nothing(tmp_path):
    make_cell(tmp_path, seed=0)
    make_cell(tmp_path, "random", seed=0)
    make_cell(tmp_path, "full", maps=(50.0,))
    assert mixtures(read_cells(tmp_path)) == []
    make_cell(tmp_path, seed=1, commit="d" * 40 + "-dirty", hardware={"cpu": "y"})
    make_cell(tmp_path, "random", seed=1, maps=(20.0, 30.0), train_tiles=90)
    text = "\n".join(mixtures(read_cells(tmp_path)))
    assert "cells of 2 commits (cccccccc, dddddddd-dirty); mixed within osal_nd" in text
    assert "AULC covers different ranges of labelled tiles (10 %-30 %, 10 %-50 %)" in text
    assert "different numbers of training tiles" in text and "2 kinds of hardware" in text


def test_configurations_may_differ_between_methods_but_not_within_one(tmp_path):
    make_cell(tmp_path, method_sha256="1" * 64)
    make_cell(tmp_path, "random", method_sha256="2" * 64)
    assert mixtures(read_cells(tmp_path)) == []
    make_cell(tmp_path, "random", seed=1, method_sha256="3" * 64)
    assert mixtures(read_cells(tmp_path)) == [
        "5+2: cells of 3 configurations (11111111, 22222222, 33333333); mixed within random"
    ]
