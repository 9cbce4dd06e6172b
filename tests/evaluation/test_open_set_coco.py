import json

import pytest
from hand_made import KNOWN, UNKNOWN, evaluate, output, record

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.evaluation.open_set_coco import OpenSetCOCOEvaluator

A, B, C, FAR = [10, 10, 20, 20], [60, 10, 20, 20], [110, 10, 20, 20], [150, 150, 20, 20]


def test_a_false_positive_below_the_hit_costs_nothing():
    result = evaluate([record(1, (A, 0))], {1: [(A, 0.9, 0), (FAR, 0.8, 0)]})
    assert result["bbox"]["mAP50"] == result["bbox"]["AP"] == result["bbox"]["AP75"] == pytest.approx(100)


def test_a_false_positive_above_the_hit_halves_precision_at_every_recall():
    result = evaluate([record(1, (A, 0))], {1: [(A, 0.8, 0), (FAR, 0.9, 0)]})
    assert result["bbox"]["mAP50"] == pytest.approx(50)


def test_half_the_nuclei_found_gives_51_of_101_recall_points():
    result = evaluate([record(1, (A, 0), (B, 0))], {1: [(A, 0.9, 0)]})
    assert result["bbox"]["AP50-tumor"] == pytest.approx(100 * 51 / 101)


def test_ap_averages_the_ten_iou_thresholds():
    # 20x20 against 20x15: IoU 0.75, a hit at 0.50 .. 0.75 (six of the ten thresholds).
    result = evaluate([record(1, (A, 0))], {1: [([10, 10, 20, 15], 0.9, 0)]})
    assert result["bbox"]["mAP50"] == result["bbox"]["AP75"] == pytest.approx(100)
    assert result["bbox"]["AP"] == pytest.approx(60)


def test_class_without_ground_truth_is_left_out_and_named():
    result = evaluate([record(1, (A, 0))], {1: [(A, 0.9, 0), (FAR, 0.95, 1)]})
    assert result["bbox"]["mAP50"] == pytest.approx(100)
    assert "AP50-lymphocyte" not in result["bbox"]
    assert any("lymphocyte" in flag for flag in result["flags"])


def test_missed_class_counts_as_zero():
    result = evaluate([record(1, (A, 0), (B, 1))], {1: [(A, 0.9, 0)]})
    assert result["bbox"]["AP50-lymphocyte"] == 0
    assert result["bbox"]["mAP50"] == pytest.approx(50)


@pytest.mark.parametrize("unknown", ["fp", "ignore"])
def test_no_detections_is_zero_not_nan(unknown):
    result = evaluate([record(1, (A, 0), (B, 1), (C, UNKNOWN))], {1: []}, unknown=unknown)
    assert result["bbox"] == {
        key: 0.0
        for key in ["AP", "mAP50", "AP75", "AP-tumor", "AP50-tumor", "AP-lymphocyte", "AP50-lymphocyte"]
    }
    assert "no detections" in result["flags"]
    assert result["open_set"]["A-OSE"] == 0
    assert result["counts"]["tiles_without_detections"] == 1


def test_detection_on_unknown_is_a_false_positive_or_ignored():
    records = [record(1, (A, 0), (C, UNKNOWN))]
    outputs = {1: [(A, 0.8, 0), (C, 0.9, 0)]}
    assert evaluate(records, outputs)["bbox"]["mAP50"] == pytest.approx(50)
    assert evaluate(records, outputs, unknown="ignore")["bbox"]["mAP50"] == pytest.approx(100)


def test_ignore_forgives_every_detection_on_the_unknown_nucleus_of_any_class_but_no_other():
    records = [record(1, (A, 0), (B, 1), (C, UNKNOWN))]
    hits = [(A, 0.5, 0), (B, 0.5, 1)]
    on_unknown = [(C, 0.9, 0), (C, 0.8, 0), (C, 0.7, 1)]
    assert evaluate(records, {1: hits + on_unknown}, unknown="ignore")["bbox"]["mAP50"] == pytest.approx(100)
    elsewhere = [(FAR, 0.9, 0)]
    assert evaluate(records, {1: hits + elsewhere}, unknown="ignore")["bbox"]["AP50-tumor"] == pytest.approx(
        50
    )


def test_ignore_prefers_a_known_nucleus_over_the_crowd_around_it():
    # The unknown region covers the known nucleus; the detection on the known one must stay a true positive.
    records = [record(1, (A, 0), ([0, 0, 60, 60], UNKNOWN))]
    assert evaluate(records, {1: [(A, 0.9, 0)]}, unknown="ignore")["bbox"]["mAP50"] == pytest.approx(100)


def test_ignore_uses_intersection_over_detection_area():
    small_inside = [112, 12, 5, 5]  # IoU with C is 25/400, but all of it lies inside C
    result = evaluate(
        [record(1, (A, 0), (C, UNKNOWN))], {1: [(A, 0.8, 0), (small_inside, 0.9, 0)]}, unknown="ignore"
    )
    assert result["bbox"]["mAP50"] == pytest.approx(100)


def test_open_set_counts_by_hand():
    near_a = [12, 10, 20, 20]  # unknown nucleus that overlaps the known A: IoU 18*20 / (800 - 360) = 0.818
    records = [record(1, (A, 0), (near_a, UNKNOWN), (B, UNKNOWN), (C, UNKNOWN)), record(2, (A, UNKNOWN))]
    outputs = {
        1: [
            (A, 0.9, 0),  # true match of A: claims nothing, though IoU with near_a is 0.818
            (B, 0.9, 0),  # claims B
            (B, 0.6, 1),  # claims B again: the nucleus counts once, the detection too
            (C, 0.4, 0),  # below the score threshold
            (FAR, 0.9, 0),  # on nothing
        ],
        2: [([10, 10, 20, 9], 0.9, 0)],  # IoU 0.45: too little
    }
    result = evaluate(records, outputs)
    assert result["open_set"] == {
        "A-OSE": 1,
        "unknown_total": 4,
        "unknown_detected_fraction": 0.25,
        "detections_on_unknown": 2,
    }
    assert result["counts"] == {
        "known_nuclei": 1,
        "unknown_nuclei": 4,
        "detections": 6,
        "tiles": 2,
        "tiles_without_detections": 0,
    }
    assert evaluate(records, outputs, aose_score_thresh=0.3)["open_set"]["A-OSE"] == 2
    assert evaluate(records, outputs, iou_thresh=0.45)["open_set"]["A-OSE"] == 2


def test_a_duplicate_or_wrong_class_on_a_known_nucleus_is_no_true_match():
    near_a = [12, 10, 20, 20]
    records = [record(1, (A, 0), (near_a, UNKNOWN))]
    assert evaluate(records, {1: [(A, 0.9, 0)]})["open_set"]["A-OSE"] == 0
    assert evaluate(records, {1: [(A, 0.9, 0), (A, 0.8, 0)]})["open_set"]["A-OSE"] == 1
    assert evaluate(records, {1: [(A, 0.9, 1)]})["open_set"]["A-OSE"] == 1


def test_a_tile_never_evaluated_still_counts_its_nuclei():
    result = evaluate([record(1, (A, 0)), record(2, (A, 0))], {1: [(A, 0.9, 0)]})
    assert result["bbox"]["mAP50"] == pytest.approx(100 * 51 / 101)
    assert any("1 tiles were never evaluated" in flag for flag in result["flags"])


def test_more_nuclei_than_max_dets_is_flagged_and_more_than_100_all_count():
    boxes = [[10 * (i % 15), 10 * (i // 15), 9, 9] for i in range(150)]
    records = [record(1, *[(b, 0) for b in boxes])]
    outputs = {1: [(b, 0.9, 0) for b in boxes]}
    full = evaluate(records, outputs)
    assert full["bbox"]["mAP50"] == pytest.approx(100)
    assert not any("max_dets" in flag for flag in full["flags"])
    capped = evaluate(records, outputs, max_dets=100)
    assert capped["bbox"]["mAP50"] == pytest.approx(100 * 67 / 101)  # recall points 0 .. 0.66
    assert any("max_dets=100" in flag for flag in capped["flags"])


def test_results_are_plain_numbers_and_reset_forgets():
    evaluator = OpenSetCOCOEvaluator([record(1, (A, 0))], KNOWN, distributed=False, with_flags=False)
    evaluator.process([{"image_id": 1}], [output((A, 0.9, 0))])
    result = evaluator.evaluate()
    assert json.loads(json.dumps(result)) == result
    assert all(type(v) in (int, float) for task in result.values() for v in task.values())
    evaluator.reset()
    assert evaluator.evaluate()["bbox"]["mAP50"] == 0.0


def test_non_finite_detections_are_dropped_and_flagged():
    result = evaluate([record(1, (A, 0))], {1: [(A, 0.9, 0), (B, float("nan"), 0)]})
    assert result["bbox"]["mAP50"] == pytest.approx(100)
    assert any("1 detections" in flag for flag in result["flags"])


@pytest.mark.parametrize(
    "records, error, text",
    [
        ([], DataError, "no tiles"),
        ([record(1), record(1)], DataError, "used by two tiles"),
        (
            [{"image_id": 1, "image_key": "a.png", "height": 9, "width": 9}],
            DataError,
            "a.png: no annotations",
        ),
        ([record(1, (A, 3))], DataError, "1.png: category_id"),
    ],
)
def test_unusable_records_are_named(records, error, text):
    with pytest.raises(error, match=text):
        OpenSetCOCOEvaluator(records, KNOWN, distributed=False)


def test_wrong_head_or_tile_is_named():
    with pytest.raises(ConfigError, match="NUM_CLASSES"):
        evaluate([record(1)], {1: [(A, 0.9, 2)]})
    with pytest.raises(DataError, match="image_id 5"):
        evaluate([record(1)], {5: []})
    with pytest.raises(ConfigError, match="drop"):
        OpenSetCOCOEvaluator([record(1)], KNOWN, unknown="drop")


def test_without_a_known_nucleus_there_is_no_average_precision_and_still_an_open_set_error():
    result = evaluate([record(1, (A, UNKNOWN))], {1: [(A, 0.9, 0)]})
    assert result["bbox"] == {} and result["open_set"]["A-OSE"] == 1
    assert any("no nucleus of a known class" in flag for flag in result["flags"])
