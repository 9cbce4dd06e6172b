import json

import numpy as np
import programs
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import launch
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.evaluation.matching import true_matches
from osal_detectron2.evaluation.open_set_coco import OpenSetCOCOEvaluator

KNOWN = ["tumor", "lymphocyte"]
UNKNOWN = len(KNOWN)


def record(image_id, *nuclei, size=200):
    annotations = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": cls, "iscrowd": 0}
        for box, cls in nuclei
    ]
    return {"image_id": image_id, "image_key": f"{image_id}.png", "height": size, "width": size} | {
        "annotations": annotations
    }


def output(*detections, size=200):
    """Detections are (xywh box, score, class)."""
    instances = Instances((size, size))
    boxes = np.array([d[0] for d in detections], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances.pred_boxes = Boxes(torch.from_numpy(boxes))
    instances.scores = torch.tensor([d[1] for d in detections], dtype=torch.float32)
    instances.pred_classes = torch.tensor([d[2] for d in detections], dtype=torch.int64)
    return {"instances": instances}


def evaluate(records, outputs, **kwargs):
    """`outputs` maps image_id to detections."""
    evaluator = OpenSetCOCOEvaluator(records, KNOWN, distributed=False, **kwargs)
    evaluator.process([{"image_id": i} for i in outputs], [output(*d) for d in outputs.values()])
    return evaluator.evaluate()


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


def random_case(seed, tiles=12, noise=3.0):
    rng = np.random.default_rng(seed)
    records, outputs = [], {}
    for i in range(tiles):
        corners = rng.uniform(0, 160, size=(rng.integers(0, 12), 2))
        boxes = np.concatenate([corners, rng.uniform(10, 40, size=corners.shape)], axis=1).round(2)
        classes = rng.integers(0, 3, size=len(boxes))
        records.append(record(100 - i, *zip(boxes.tolist(), classes.tolist())))
        found = rng.random(len(boxes)) < 0.7
        moved = np.abs(boxes[found] + rng.normal(0, noise, size=(int(found.sum()), 4)))
        extra = np.concatenate([rng.uniform(0, 160, (4, 2)), rng.uniform(10, 40, (4, 2))], axis=1)
        every = np.concatenate([moved, extra])
        scores = rng.random(len(every)).round(1)  # ties on purpose
        guessed = np.concatenate([classes[found], rng.integers(0, 2, 4)])
        confused = (rng.random(len(every)) < 0.2) | (guessed == UNKNOWN)
        guessed = np.where(confused, rng.integers(0, 2, len(every)), guessed)
        outputs[100 - i] = list(zip(every.tolist(), scores.tolist(), guessed.tolist()))
    return records, outputs


@pytest.mark.parametrize("seed", range(3))
def test_fp_mode_equals_detectron2s_own_evaluator(tmp_path, seed):
    records, outputs = random_case(seed)
    images = [
        {"id": r["image_id"], "height": 200, "width": 200, "file_name": r["image_key"]} for r in records
    ]
    annotations = [
        {"image_id": r["image_id"], "bbox": a["bbox"], "area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0}
        | {"category_id": a["category_id"]}
        for r in records
        for a in r["annotations"]
        if a["category_id"] < UNKNOWN
    ]
    annotations = [a | {"id": i + 1} for i, a in enumerate(annotations)]
    categories = [{"id": k, "name": name} for k, name in enumerate(KNOWN)]
    path = tmp_path / "gt.json"
    path.write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    )
    name = f"open_set_reference_{seed}"
    MetadataCatalog.get(name).set(json_file=str(path), thing_classes=KNOWN)
    try:
        reference = COCOEvaluator(
            name, tasks=("bbox",), distributed=False, use_fast_impl=False, max_dets_per_image=300
        )
        reference.reset()
        reference.process([{"image_id": i} for i in outputs], [output(*d) for d in outputs.values()])
        expected = reference.evaluate()["bbox"]
    finally:
        MetadataCatalog.remove(name)
    ours = evaluate(records, outputs)["bbox"]
    assert 5 < ours["mAP50"] < 95, "a degenerate case would compare nothing"
    assert ours["AP"] == pytest.approx(expected["AP"], abs=1e-9)
    assert ours["mAP50"] == pytest.approx(expected["AP50"], abs=1e-9)
    assert ours["AP75"] == pytest.approx(expected["AP75"], abs=1e-9)
    for cls in KNOWN:
        assert ours[f"AP-{cls}"] == pytest.approx(expected[f"AP-{cls}"], abs=1e-9)


def test_true_matches_agree_with_coco_on_the_number_of_true_positives():
    from pycocotools.cocoeval import COCOeval

    records, outputs = random_case(7, noise=5.0)
    evaluator = OpenSetCOCOEvaluator(records, KNOWN, distributed=False)
    evaluator.process([{"image_id": i} for i in outputs], [output(*d) for d in outputs.values()])
    detections = [
        {"image_id": i, "category_id": int(c) + 1, "bbox": b, "score": float(s)}
        for i, (boxes, scores, classes) in evaluator._predictions.items()
        for b, s, c in zip(boxes.tolist(), scores, classes)
    ]
    coco = COCOeval(evaluator._coco_gt, evaluator._coco_gt.loadRes(detections), "bbox")
    coco.params.areaRng, coco.params.maxDets = [[0, 1e10]], [300]
    coco.evaluate()
    expected = {r["image_id"]: 0 for r in records}
    for image in filter(None, coco.evalImgs):
        expected[image["image_id"]] += int((image["dtMatches"][0] > 0).sum())
    ours = {}
    for r in records:
        gt = [(a["bbox"], a["category_id"]) for a in r["annotations"] if a["category_id"] < UNKNOWN]
        gt_boxes = np.array([b for b, _ in gt]).reshape(-1, 4)
        gt_classes = np.array([c for _, c in gt], dtype=int)
        matched = true_matches(*evaluator._predictions[r["image_id"]], gt_boxes, gt_classes)
        ours[r["image_id"]] = int(matched.sum())
    assert ours == expected
    assert sum(ours.values()) > 10


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


def _evaluate_half(records, outputs, path):
    from detectron2.utils import comm

    torch.set_num_threads(1)
    evaluator = OpenSetCOCOEvaluator(records, KNOWN)
    mine = sorted(outputs)[comm.get_rank() :: 2]
    evaluator.process([{"image_id": i} for i in mine], [output(*outputs[i]) for i in mine])
    result = evaluator.evaluate()
    if comm.is_main_process():
        path.write_text(json.dumps(result))
    else:
        assert result == {}


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="the CPU (gloo) case; on CUDA launch wants one GPU a process"
)
def test_two_processes_give_the_figures_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.multiprocessing, "start_processes", programs.start_forks)
    records, outputs = random_case(3)
    path = tmp_path / "result.json"
    launch(_evaluate_half, 2, dist_url=f"file://{tmp_path}/rendezvous", args=(records, outputs, path))
    assert json.loads(path.read_text()) == evaluate(records, outputs)


def test_without_a_known_nucleus_there_is_no_average_precision_and_still_an_open_set_error():
    result = evaluate([record(1, (A, UNKNOWN))], {1: [(A, 0.9, 0)]})
    assert result["bbox"] == {} and result["open_set"]["A-OSE"] == 1
    assert any("no nucleus of a known class" in flag for flag in result["flags"])
