"""The detector that a finished run ended with, used on tiles of its test set. Writes nothing."""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode

from ..deploy.detect import detect
from ..deploy.load import Detector
from ..engine.plan import load_data
from .detections import Boxes


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


def found_boxes(detector: Detector, records: Sequence[dict], *, score_thresh: float) -> list[Boxes]:
    """Detections on each record with scores of at least `score_thresh`, in tile pixels."""
    tables = detect(detector, records, score_thresh=score_thresh)
    return [Boxes(table["boxes"], table["classes"], table["scores"]) for table in tables]
