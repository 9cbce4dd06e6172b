import csv
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature_run import KNOWN, labels_of, make_run

from osal_detectron2.core.annotation_cost import AnnotationCost
from osal_detectron2.core.errors import DataError, LedgerError
from osal_detectron2.evaluation.learning_curve import (
    aulc,
    query_counts,
    read_costs,
    read_curve,
    write_csv,
)
from osal_detectron2.evaluation.report import write_report


def test_rows_of_a_run_by_hand(tmp_path):
    first, second, last = read_curve(make_run(tmp_path / "run"))
    assert first == {
        "round": 0,
        "labelled_tiles": 1,
        "labelled_fraction": 1 / 6,
        "nuclei_annotated": 3,
        "minutes_annotated": (1 * 15 + 3 * 3) / 60,
        "mAP50": 20.0,
        "AP": 10.0,
        "A-OSE": 10,
        "unknown_detected_fraction": 0.5,
        "AP50-tumor": 20.0,
        "AP50-lymphocyte": None,
        "queried_tiles": 2,
        "rejected_tiles": 0,
        "known_queried": 3,
        "unknown_queried": 0,
        "purity": 1.0,
        "cumulative_known": 3,
        "cumulative_unknown": 0,
        "recall": 3 / 5,  # 7 known in the training tiles, 2 of them in the initial one
        "labelled_fraction_after_query": 3 / 6,
        "minutes_after_query": (3 * 15 + 6 * 3) / 60,
        "seconds_evaluate": 1.0,
        "seconds_train": 12.5,
    }
    # The second query: c.png with 1 known and 3 unknown nuclei, and f.png, which was rejected.
    assert second["labelled_tiles"] == 3 and second["nuclei_annotated"] == 6
    assert second["queried_tiles"] == 2 and second["rejected_tiles"] == 1
    assert second["purity"] == 1 / 4
    assert (second["cumulative_known"], second["cumulative_unknown"], second["recall"]) == (4, 3, 4 / 5)
    assert second["labelled_fraction_after_query"] == 4 / 6
    assert last["minutes_annotated"] == (5 * 15 + 10 * 3) / 60, "a rejected tile was opened, too"
    # The last round queries nothing: no purity, the cumulative figures stay.
    assert last["labelled_tiles"] == 4 and last["nuclei_annotated"] == 10
    assert last["queried_tiles"] == 0 and last["purity"] is None and last["cumulative_known"] == 4


def test_a_query_counts_only_once_it_is_committed(tmp_path):
    run = make_run(tmp_path / "run", rounds=("init", 0))
    (run / "rounds" / "000" / "commit.json").unlink()
    (row,) = read_curve(run)
    assert row["mAP50"] == 20.0
    assert row["known_queried"] is None and row["cumulative_known"] is None


def test_recall_is_unknown_where_nobody_knows_the_pool(tmp_path):
    rows = read_curve(make_run(tmp_path / "run", config={}))
    assert [row["recall"] for row in rows] == [None] * 3
    assert rows[0]["purity"] == 1.0


def test_a_run_before_its_first_round_has_no_rows(tmp_path):
    assert read_curve(make_run(tmp_path / "started", rounds=())) == []
    assert read_curve(make_run(tmp_path / "initial", rounds=("init",))) == []


def test_what_the_test_set_cannot_say_is_none_and_never_zero(tmp_path):
    """Files of older versions have zeros there."""
    run = make_run(tmp_path / "run")
    path = run / "rounds" / "001" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["bbox"] = dict.fromkeys(metrics["bbox"], 0.0)
    metrics["counts"]["known_nuclei"] = 0
    metrics["open_set"] = {"A-OSE": 0, "unknown_detected_fraction": 0.0, "unknown_total": 0}
    path.write_text(json.dumps(metrics))
    (run / "rounds" / "002" / "metrics.json").unlink()  # no test set at all
    first, second, third = read_curve(run)
    assert first["mAP50"] == 20 and first["A-OSE"] == 10
    for row in (second, third):
        assert {row[k] for k in ("mAP50", "AP", "AP50-tumor", "A-OSE", "unknown_detected_fraction")} == {None}
        assert row["nuclei_annotated"] > 0


def test_the_time_of_annotation_follows_what_the_run_was_told(tmp_path):
    run = make_run(tmp_path / "run")
    assert read_costs(run) == AnnotationCost(15, 3)
    write_report(run, AnnotationCost(per_tile=60, per_nucleus=0))
    assert read_costs(run) == AnnotationCost(60, 0)
    assert [row["minutes_annotated"] for row in read_curve(run)] == [1, 3, 5]
    assert [row["minutes_annotated"] for row in read_curve(run, AnnotationCost(0, 60))] == [3, 6, 10]


def test_damaged_runs_are_named(tmp_path):
    with pytest.raises(LedgerError, match="run.json.*OUTPUT_DIR"):
        read_curve(tmp_path)
    run = make_run(tmp_path / "run")
    metrics = run / "rounds" / "001" / "metrics.json"
    metrics.write_text(metrics.read_text()[:40])
    with pytest.raises(DataError, match="001/metrics.json"):
        read_curve(run)
    metrics.write_text(json.dumps({"schema": "osal-metrics/9"}))
    with pytest.raises(LedgerError, match="001/metrics.json"):
        read_curve(run)


def test_query_counts_tell_known_from_unknown_and_tiles_from_nuclei():
    counts = query_counts({key: labels_of(key) for key in ("c.png", "e.png", "f.png")}, KNOWN)
    assert counts == {
        "tiles": 3,
        "rejected_tiles": 1,
        "known": 1,
        "unknown": 3,
        "per_class": {"debris": 3, "tumor": 1},
    }


def rows_of(*points):
    return [{"labelled_fraction": x, "mAP50": y} for x, y in points]


def test_aulc_by_hand():
    # Trapezoids 0.1 * 30 + 0.3 * 50 = 18, over a range of 0.4.
    assert aulc(rows_of((0.1, 20), (0.2, 40), (0.5, 60))) == pytest.approx(45)
    assert aulc(rows_of((0.1, 20), (0.2, None), (0.5, 60))) == pytest.approx(40)
    assert aulc(rows_of((0.3, 33))) == 33
    assert aulc(rows_of((0.3, None))) is None and aulc([]) is None


points = st.lists(
    st.tuples(st.integers(0, 100), st.floats(0, 100)),
    min_size=1,
    max_size=8,
    unique_by=lambda point: point[0],
)


@given(points)
def test_aulc_lies_within_the_curve_and_is_the_constant_of_a_flat_one(points):
    area = aulc(rows_of(*points))
    values = [y for _, y in points]
    assert min(values) - 1e-9 <= area <= max(values) + 1e-9
    assert aulc(rows_of(*((x, 7.0) for x, _ in points))) == pytest.approx(7.0)
    assert aulc(rows_of(*reversed(points))) == pytest.approx(area)


def test_csv_keeps_every_column_and_empty_cells(tmp_path):
    write_csv(
        [{"round": 0, "purity": None}, {"round": 1, "purity": 0.5, "seconds_query": 2.0}], tmp_path / "c.csv"
    )
    with open(tmp_path / "c.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"round": "0", "purity": "", "seconds_query": ""},
            {"round": "1", "purity": "0.5", "seconds_query": "2.0"},
        ]


def test_reports_need_neither_torch_nor_detectron2():
    code = (
        "import sys; import osal_detectron2.evaluation.compare, osal_detectron2.evaluation.gallery; "
        "assert not {'torch', 'detectron2', 'pycocotools'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
