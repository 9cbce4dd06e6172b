"""On random tiles the evaluator has the figures of Detectron2's own, of pycocotools, and of two processes."""

import json

import numpy as np
import programs
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import launch
from detectron2.evaluation import COCOEvaluator
from hand_made import KNOWN, UNKNOWN, evaluate, output, record

from osal_detectron2.evaluation.matching import true_matches
from osal_detectron2.evaluation.open_set_coco import OpenSetCOCOEvaluator


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
