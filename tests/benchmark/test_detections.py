"""Fig. 5: the matching by hand, the picture by its patches, and the tool on a real (untrained) run."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from programs import osal

from osal_detectron2.benchmark.detections import Boxes, draw_detections, match_detections
from osal_detectron2.core.boxes import pairwise_iou
from osal_detectron2.evaluation.palette import class_color

ROOT = Path(__file__).resolve().parents[2]

# Two known nuclei of class 0, one of class 1, one unknown (class 2), 10 px wide.
TRUTH = Boxes(
    np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]), np.array([0, 0, 1, 2])
)


def detections(*rows):
    """(x, class, score) -> boxes of 10 px in the first row of the tile."""
    return Boxes(
        np.array([[x, 0, x + 10, 10] for x, _, _ in rows], float).reshape(-1, 4),
        np.array([c for _, c, _ in rows], int),
        np.array([s for _, _, s in rows], float),
    )


def match(*rows, **options):
    result = match_detections(TRUTH, detections(*rows), num_known=2, **options)
    return result.found.tolist(), result.extra.tolist(), result.on_unknown.tolist()


def test_iou_by_hand():
    # Shifted by 5: 50 / 150. A shared edge and an empty box: nothing.
    ious = pairwise_iou([[0, 0, 10, 10]], [[5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3], [0, 0, 10, 10]])
    assert ious[0] == pytest.approx([1 / 3, 0, 0, 1])
    assert pairwise_iou(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0


def test_found_missed_extra_and_on_unknown():
    found, extra, on_unknown = match((1, 0, 0.9), (41, 0, 0.8), (61, 1, 0.7), (90, 0, 0.6))
    assert found == [True, False, False, False]  # the third nucleus met a detection of the wrong class
    assert extra == [False, True, True, True]
    assert on_unknown == [False, False, True, False]


def test_the_better_score_claims_and_the_second_is_extra():
    found, extra, _ = match((2, 0, 0.5), (3, 0, 0.9))
    assert found[0] and extra == [True, False]


def test_the_threshold_of_overlap_counts_as_found():
    # Shifted by 10/3: overlap 20/3 of 40/3 = 0.5.
    assert match((3.3333, 0, 0.9))[0][0] and not match((3.34, 0, 0.9))[0][0]
    assert match((5, 0, 0.9), iou_thresh=0.3)[0][0]


def test_empty_tiles_and_no_detections():
    assert match()[0] == [False] * 4
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0, int))
    result = match_detections(nothing, detections((0, 0, 0.9)), num_known=2)
    assert result.found.tolist() == [] and result.extra.tolist() == [True] and not result.on_unknown.any()


def test_the_picture_has_a_box_for_each_verdict():
    image = np.full((40, 80, 3), 200, np.uint8)
    figure = draw_detections(
        [image],
        [TRUTH],
        {"A": [detections((1, 0, 0.9), (61, 1, 0.7))], "B": [detections()]},
        known_classes=["x", "y"],
    )
    kinds = [
        sorted(patch.get_gid() for patch in axes.patches if patch.get_gid() != "rim") for axes in figure.axes
    ]
    assert kinds == [
        ["found", "found", "found", "unknown"],
        ["extra", "found", "missed", "missed", "unknown"],
        ["missed", "missed", "missed", "unknown"],
    ]
    assert [axes.get_title() for axes in figure.axes] == ["Annotation", "A", "B"]
    assert figure.axes[1].get_xlabel() == "found 1 of 3\nextra 1, 1 on unknown"
    extra = next(patch for patch in figure.axes[1].patches if patch.get_gid() == "extra")
    unknown = [patch for axes in figure.axes for patch in axes.patches if patch.get_gid() == "unknown"]
    assert len(unknown) == 3
    for patch in unknown:  # dashes on a dark rim of its own: to be seen on dark and on pale tissue
        assert to_hex(patch.get_edgecolor()) == "#ffffff" and patch.get_linestyle() != "-"
        assert patch.get_linewidth() >= 1
    for axes in figure.axes:
        rims = [patch.get_bbox().bounds for patch in axes.patches if patch.get_gid() == "rim"]
        assert rims == [patch.get_bbox().bounds for patch in axes.patches if patch.get_gid() != "rim"]
    colors = {to_hex(p.get_edgecolor()) for p in figure.axes[0].patches if p.get_gid() == "found"}
    assert colors == {class_color(0).lower(), class_color(1).lower()}
    assert extra.get_hatch() and extra.get_bbox().bounds == (61, 0, 10, 10)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["x", "y", "missed (in its class's colour)", "extra", "unknown nucleus"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run folders with random weights: all that a picture needs of a run."""
    import torch
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from osal_detectron2 import add_osal_config

    folder = tmp_path_factory.mktemp("detections")
    boxes = [[10, 10, 12, 12], [40, 30, 10, 10]]
    for split in ("train", "test"):
        images, annotations = [], []
        for i in range(3):
            Image.fromarray(np.full((64, 64, 3), 180, np.uint8)).save(folder / f"{split}{i}.png")
            images.append({"id": i, "file_name": f"{split}{i}.png", "height": 64, "width": 64})
            for j, box in enumerate(boxes[: i or 1]):
                annotations.append({"id": 10 * i + j + 1, "image_id": i, "category_id": j + 1, "bbox": box,
                                    "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
        categories = [{"id": 1, "name": "tumor"}, {"id": 2, "name": "other"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    paths = []
    for strategy in ("random", "osal_nd"):
        cfg = get_cfg()
        add_osal_config(cfg)
        cfg.merge_from_file(str(ROOT / "configs/quickstart.yaml"))
        data = {"TRAIN_JSON": folder / "train.json", "TEST_JSON": folder / "test.json"}
        data |= {"TRAIN_IMAGE_ROOT": folder, "TEST_IMAGE_ROOT": folder}
        cfg.merge_from_list([word for k, v in data.items() for word in (f"OSAL.DATA.{k}", str(v))])
        cfg.OSAL.DATA.KNOWN_CLASSES = ["tumor"]
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
        cfg.OSAL.STRATEGY = strategy
        torch.manual_seed(0)
        path = folder / strategy
        path.mkdir()
        (path / "config.yaml").write_text(cfg.dump())
        torch.save({"model": build_model(cfg).state_dict()}, path / "model_final.pth")
        paths.append(path)
    return paths


def test_the_tool_draws_runs_and_leaves_them_alone(runs, tmp_path, capsys):
    before = [sorted((p.name, p.stat().st_mtime_ns) for p in run.iterdir()) for run in runs]
    out = tmp_path / "fig5.png"
    words = [*map(str, runs), "--out", str(out), "--number", "1", "--score-thresh", "0.0"]
    assert osal("run", "detections", *words) == 0, capsys.readouterr().err
    with Image.open(out) as image:
        assert image.width == 2100
    assert before == [sorted((p.name, p.stat().st_mtime_ns) for p in run.iterdir()) for run in runs]


def test_tiles_with_unknown_nuclei_come_first(runs):
    from osal_detectron2.benchmark.final_detector import choose_tiles, ground_truth, read_test_set
    from osal_detectron2.deploy.load import read_config

    records, known = read_test_set(read_config(runs[0]))
    assert known == ["tumor"]
    assert choose_tiles(list(records.values()), num_known=1, number=2) == ["test2.png", "test0.png"]
    truth = ground_truth(records["test2.png"])
    assert truth.xyxy.tolist() == [[10, 10, 22, 22], [40, 30, 50, 40]] and truth.classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.gif"], "--out x.gif: must end in"),
        (["--out", "x.png", "--labels", "one"], "--labels gives 1 titles for 2 runs"),
        (["--out", "x.png", "--tiles", "nowhere.png"], "tile nowhere.png is not in its test set"),
    ],
)
def test_errors_are_one_line(runs, capsys, words, message):
    assert osal("run", "detections", *runs, *words) == 1
    assert message in capsys.readouterr().err


def test_a_folder_without_a_finished_run_is_named(runs, tmp_path, capsys):
    """A checkpoint on the way is no detector to compare with others."""
    (tmp_path / "config.yaml").write_bytes((runs[0] / "config.yaml").read_bytes())
    (tmp_path / "model_0000003.pth").write_bytes((runs[0] / "model_final.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    assert osal("run", "detections", tmp_path, "--out", "x.png") == 1
    assert f"{tmp_path / 'model_final.pth'}: no such file" in capsys.readouterr().err
