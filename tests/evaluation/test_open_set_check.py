"""The warning that the open-set part of a run does nothing: when it comes, where, and when it does not."""

import pytest
from miniature_run import make_run

from osal_detectron2.evaluation.open_set_check import inert, prediction_warning, query_warning
from osal_detectron2.evaluation.report import describe_run


@pytest.mark.parametrize(
    ("labelled", "looks", "expected"),
    [
        (
            (880, 120),
            (747, 0),
            "known",
        ),  # as met on blood: nothing looks unknown, 12 % of the labelled nuclei are
        ((880, 120), (740, 7), "known"),
        ((880, 120), (647, 100), None),
        ((995, 5), (747, 1), None),  # half a per cent: that many are to be expected
        ((1000, 0), (747, 0), None),  # nobody has shown it an unknown nucleus
        ((600, 400), (5, 1000), "unknown"),
        ((600, 400), (0, 0), None),
        ((0, 0), (100, 0), None),
        ((88, 12), (20, 0), None),  # too few detections to be surprised
    ],
)
def test_it_warns_where_what_was_labelled_says_otherwise(labelled, looks, expected):
    (known, unknown), (look_known, look_unknown) = labelled, looks
    assert inert(known=known, unknown=unknown, look_known=look_known, look_unknown=look_unknown) == expected


def test_the_warning_is_in_the_table_at_the_end_with_a_remedy(tmp_path):
    run = make_run(tmp_path / "run", scores={"n_known": 20, "n_detected": 20})
    # Labelled before query 0: 2 known nuclei, 1 unknown.
    text = query_warning(run, 0)
    assert text.startswith(
        "0 of 100 detections in the pool look unknown although 33 % of the 3 labelled nuclei are"
    )
    assert "OSAL.PROTOTYPE.BALANCED True" in text
    assert "WARNING, in 2 rounds, last in round 1" in describe_run(run)
    well = make_run(tmp_path / "well", scores={"n_known": 15, "n_detected": 20})
    assert query_warning(well, 0) is None and "WARNING" not in describe_run(well)
    silent = make_run(tmp_path / "silent")  # a strategy that counts nothing
    assert query_warning(silent, 0) is None
    balanced = make_run(
        tmp_path / "balanced",
        scores={"n_known": 20, "n_detected": 20},
        config={"OSAL.PROTOTYPE.BALANCED": True, "OSAL.PROTOTYPE.MARGIN": 10.0},
    )
    assert "BALANCED" not in query_warning(balanced, 0) and "MARGIN than 10" in query_warning(balanced, 0)


def test_predictions_are_held_against_all_labels_of_the_run(tmp_path):
    run = make_run(tmp_path / "run")  # 6 known, 4 unknown
    text = prediction_warning(run, look_known=747, look_unknown=0)
    assert text.startswith("0 of 747 detections look unknown although 40 % of the 10 labelled nuclei are")
    assert prediction_warning(run, look_known=500, look_unknown=247) is None
    assert prediction_warning(tmp_path, look_known=747, look_unknown=0) is None, (
        "an exported detector is no run"
    )
