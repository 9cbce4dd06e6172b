"""What a detector of a finished run finds: in windows as in tiles, and which of its nuclei look unknown."""

import numpy as np
import pytest
import torch
from PIL import Image

from osal_detectron2.deploy.detect import detect, looks_unknown, unknown_rule
from osal_detectron2.deploy.images import records_of_folder
from osal_detectron2.deploy.load import load_detector


def test_looks_unknown_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], float)
    auxiliary = {
        # The third is met at IoU 1/3 only, the fourth not at all.
        "boxes": np.array([[1, 0, 11, 10], [20, 0, 30, 10], [45, 0, 55, 10]], float),
        "labelled_unknown": np.array([False, True, True]),
        "dist_known": np.array([3.0, 2.0, 9.0]),
        "dist_unknown": np.array([2.0, 2.0, 1.0]),
    }
    flags = {rule: looks_unknown(boxes, auxiliary, rule=rule).tolist() for rule in ("proto", "label", "both")}
    assert flags["proto"][:2] == [1, 0]  # a tie counts as known, as in the query
    assert flags["label"][:2] == [0, 1]
    assert flags["both"][:2] == [0, 0]
    assert np.isnan([flags[rule][2:] for rule in flags]).all()
    nothing = {name: values[:0] for name, values in auxiliary.items()}
    assert np.isnan(looks_unknown(boxes, nothing, rule="proto")).all()


def test_without_prototypes_the_label_decides_and_without_auxiliary_nothing(real_run, stock_runs):
    assert unknown_rule(load_detector(real_run))[0] == "proto"
    rule, sentence = unknown_rule(load_detector(stock_runs["osal_fpn"]))  # untrained: no prototype yet
    assert rule == "label" and "a prototype is missing" in sentence
    rule, sentence = unknown_rule(load_detector(stock_runs["plain_fpn"]))
    assert rule is None and "no auxiliary" in sentence


def test_a_large_image_is_cut_into_windows_that_find_what_tiles_find(real_run, nuclei, tmp_path):
    detector = load_detector(real_run)
    tile = np.asarray(Image.open(sorted((nuclei / "rgb").glob("*.png"))[0]).convert("RGB"))[:64, :64]
    sheet = np.full((64, 256, 3), 230, np.uint8)
    sheet[:, 192:] = tile
    (tmp_path / "in").mkdir()
    Image.fromarray(sheet).save(tmp_path / "in/sheet.png")
    (record,) = records_of_folder(tmp_path / "in")
    (cut,) = detect(detector, [record], score_thresh=0.0, tile=64, overlap=0, bound=128)
    (tmp_path / "alone").mkdir()
    Image.fromarray(tile).save(tmp_path / "alone/tile.png")
    (alone,) = detect(detector, records_of_folder(tmp_path / "alone"), score_thresh=0.0)
    # Without overlap each window is a tile of its own: the last one's nuclei are those of the tile, moved by 192.
    moved = {tuple(box) for box in (alone["boxes"] + [192, 0, 192, 0]).round(2).tolist()}
    assert moved == {tuple(box) for box in cut["boxes"].round(2).tolist() if box[0] >= 192}
    # More than one image may hold (TEST.DETECTIONS_PER_IMAGE 20).
    assert len(cut["scores"]) > 20 and (np.diff(cut["scores"]) <= 0).all()
    (whole,) = detect(detector, [record], score_thresh=0.0, tile=64, overlap=0, bound=256)
    assert len(whole["scores"]) <= 20


def test_the_flag_is_that_of_the_auxiliary_detector(real_run, nuclei):
    from torchvision.ops import box_iou

    detector, records = load_detector(real_run), records_of_folder(nuclei / "rgb")
    decided = 0
    for record, table in zip(records, detect(detector, records, score_thresh=0.0, rule="proto")):
        image = torch.as_tensor(np.array(Image.open(record["file_name"]).convert("RGB"))).permute(2, 0, 1)
        with torch.no_grad():
            (output,) = detector.auxiliary([{"image": image}])
        other = output["instances"]
        overlaps, rows = box_iou(torch.as_tensor(table["boxes"]), other.pred_boxes.tensor).max(dim=1)
        nearer = other.dist_unknown[rows] < other.dist_known[rows]
        expected = torch.where(overlaps >= 0.5, nearer.float(), torch.nan)
        sure = (overlaps - 0.5).abs() > 1e-3
        assert table["looks_unknown"][sure] == pytest.approx(expected[sure].numpy(), nan_ok=True)
        decided += int((overlaps >= 0.5).sum())
    assert decided > 5
