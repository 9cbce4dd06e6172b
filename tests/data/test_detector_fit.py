"""The check of a detector's settings against the nuclei: how many it may detect, and of what size."""

import numpy as np
import pytest
from miniature_set import serious

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.data.coco_file import INFO, WARNING
from osal_detectron2.data.detector_fit import (
    DetectorSettings,
    best_anchor_iou,
    box_sizes_after_resize,
    detector_settings,
)


def test_detection_limit_counts_nuclei_not_crowd_regions(mini):
    mini.train["annotations"] += [
        {"id": 10 + n, "image_id": 2, "category_id": 2, "bbox": [n, 20, 8, 9]} for n in range(5)
    ]
    assert serious(mini.check(settings=DetectorSettings(detection_limit=6))) == []
    (finding,) = [f for f in mini.check(settings=DetectorSettings(detection_limit=5)) if f.level != INFO]
    assert finding.check == "detection-limit" and "most train2.png with 6" in str(finding)
    mini.train["annotations"][-1]["iscrowd"] = 1
    assert serious(mini.check(settings=DetectorSettings(detection_limit=5))) == []


def test_box_sizes_follow_detectron2s_resize(mini):
    box_size = np.array([10, 12])
    assert (box_sizes_after_resize(mini.train, 0, 1333) == box_size).all()
    assert (box_sizes_after_resize(mini.train, 80, 1333) == 2 * box_size).all()  # shorter side 40 -> 80
    assert np.allclose(box_sizes_after_resize(mini.train, 800, 300), 5 * box_size)  # longer side 60 -> 300


def test_anchor_iou_by_hand():
    sizes = np.array([[10.0, 10.0], [20.0, 5.0], [30.0, 30.0]])
    # Anchors 10x10 and, of the same area with height twice the width, 7.07x14.14.
    assert best_anchor_iou(sizes[[0]], [10], [1]) == pytest.approx(1)
    assert best_anchor_iou(sizes[[1]], [10], [1]) == pytest.approx(50 / 150)
    assert best_anchor_iou(sizes[[2]], [10], [1, 2]) == pytest.approx(100 / 900)
    assert best_anchor_iou(np.array([[5.0, 10.0]]), [50**0.5], [2]) == pytest.approx(1)
    assert best_anchor_iou(sizes[[0]], [10, 32], [1, 2]) == pytest.approx(1)


def test_anchors_that_miss_the_nuclei(mini):
    settings = DetectorSettings(anchor_sizes=(32, 64), anchor_ratios=(0.5, 1, 2))
    (finding,) = [f for f in mini.check(settings=settings) if f.level != INFO and "train.json" in f.message]
    assert (finding.level, finding.check) == (WARNING, "anchor-fit")
    assert "100 % of the boxes" in finding.message and "side 11 (5-95 %: 11-11) px" in finding.message
    enlarged = DetectorSettings(anchor_sizes=(32, 64), anchor_ratios=(0.5, 1, 2), min_size=120, max_size=1333)
    findings = mini.check(settings=enlarged)
    assert serious(findings) == [] and "anchor-fit" in {finding.check for finding in findings}


def test_detector_settings_come_from_the_config(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: [[8], [16, 24]]\nINPUT:\n  MIN_SIZE_TEST: 500\n"
        "TEST:\n  DETECTIONS_PER_IMAGE: 300\n"
    )
    assert detector_settings(str(path)) == DetectorSettings(
        detection_limit=300,
        anchor_sizes=(8, 16, 24),
        anchor_ratios=(0.5, 1.0, 2.0),
        min_size=500,
        max_size=1333,
    )
    path.write_text("MODEL:\n  ANCHORS: [8]\n")
    with pytest.raises(ConfigError, match="mine.yaml: not a usable config.*ANCHORS"):
        detector_settings(str(path))
