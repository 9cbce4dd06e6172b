"""The detector that a finished run ended with, used on tiles of its test set. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BoxMode

from ..core.errors import DataError
from ..data.mapper import mapper_from_config
from ..deploy.load import load_model, read_config
from ..engine.plan import load_data
from ..modeling.detectors import Detectors
from ..scoring.forward import inference_batches
from .detections import Boxes


def read_run(folder: str | Path, *, device: str = "cpu") -> CfgNode:
    """config.yaml of a run, on `device`. Raises DataError naming what the folder lacks."""
    folder = Path(folder)
    for name in ("config.yaml", "model_final.pth"):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder / name}: no such file; give the OUTPUT_DIR of a run that has come to its end"
            )
    return read_config(folder, device=device)


def choose_tiles(records: Sequence[dict], *, num_known: int, number: int) -> list[str]:
    """Keys of `number` tiles: those with unknown nuclei first, then by known classes, then by nuclei.

    What any detector finds plays no part.
    """

    def rank(record: dict) -> tuple:
        classes = [a["category_id"] for a in record["annotations"] if not a.get("iscrowd", 0)]
        known = {c for c in classes if c < num_known}
        return max(classes, default=0) < num_known, -len(known), -len(classes), record["image_key"]

    return [record["image_key"] for record in sorted(records, key=rank)[:number]]


def read_test_set(cfg: CfgNode) -> tuple[dict[str, dict], list[str]]:
    """({tile key: record}, known classes) of the test set of a run."""
    _, test, known, _ = load_data(cfg)
    return {record["image_key"]: record for record in test}, known


def ground_truth(record: dict) -> Boxes:
    """The annotated nuclei of a record, without crowd regions."""
    kept = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in kept]
    return Boxes(np.array(boxes, float).reshape(-1, 4), np.array([a["category_id"] for a in kept], int))


@torch.no_grad()
def detect(cfg: CfgNode, folder: str | Path, records: Sequence[dict], *, score_thresh: float) -> list[Boxes]:
    """Detections of the final weights in `folder` with scores of at least `score_thresh`, in tile pixels."""
    model = load_model(cfg, Path(folder) / "model_final.pth")
    batches = inference_batches(
        records,
        mapper_from_config(cfg, train=False, with_labels=False),
        batch_size=cfg.OSAL.SCORING.BATCH_SIZE,
        size_divisibility=Detectors(model).target.backbone.size_divisibility,
    )
    found = {}
    for batch in batches:
        for tile, output in zip(batch, model(batch)):
            instances = output["instances"].to("cpu")
            instances = instances[instances.scores >= score_thresh]
            found[tile["image_key"]] = Boxes(
                instances.pred_boxes.tensor.numpy(), instances.pred_classes.numpy(), instances.scores.numpy()
            )
    return [found[record["image_key"]] for record in records]
