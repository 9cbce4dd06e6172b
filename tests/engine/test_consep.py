"""The shipped CoNSeP config on real tiles with real weights: cut, check, run, resume."""

import json
import os
from pathlib import Path

import pytest
from miniature import ROOT, train

from osal_detectron2.core.verify import verify
from osal_detectron2.data.tiling import cut_file
from osal_detectron2.evaluation.learning_curve import read_curve

SHARED = Path(os.environ.get("OSAL_SHARED", ROOT.parent / "shared"))
CONSEP, WEIGHTS = SHARED / "data" / "consep", SHARED / "weights" / "mobilenet_v2_imagenet.pth"

pytestmark = pytest.mark.skipif(
    not (CONSEP.is_dir() and WEIGHTS.is_file()),
    reason="CoNSeP and weights are not beside the repository (OSAL_SHARED)",
)


def tiles_of(split: str, images: int, folder: Path) -> Path:
    """The first images of a split, cut into tiles of 250 px."""
    coco = json.loads((CONSEP / f"{split}.json").read_text())
    coco["images"] = coco["images"][:images]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    part = folder / f"{split}.json"
    part.write_text(json.dumps(coco))
    cut_file(part, CONSEP / "images", folder / "tiles", tile=250)
    return folder / "tiles" / f"{split}.json"


def test_the_shipped_config_runs_on_real_tiles(tmp_path):
    options = ["MODEL.DEVICE", "cpu", "MODEL.TORCHVISION.WEIGHTS", WEIGHTS]
    for split, images in (("train", 1), ("test", 1)):
        options += [f"OSAL.DATA.{split.upper()}_JSON", tiles_of(split, images, tmp_path)]
        options += [f"OSAL.DATA.{split.upper()}_IMAGE_ROOT", tmp_path / "tiles" / "images"]
    options += ["OSAL.BUDGET.NUM_QUERIES", 1, "OSAL.SCHEDULE.MIN_ITERS", 4, "OSAL.SCHEDULE.EPOCHS", 0.0]
    folder = tmp_path / "run"
    config = ROOT / "configs/CoNSeP/osal_nd.yaml"
    assert train(config, "OUTPUT_DIR", folder, *options) == 0
    assert verify(folder) == []
    rows = read_curve(folder)
    assert [row["labelled_tiles"] for row in rows] == [1, 3]
    assert rows[0]["known_queried"] + rows[0]["unknown_queried"] > 0
