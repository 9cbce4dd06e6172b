"""Tiles with nuclei, and detections on them, in a line each."""

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

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
