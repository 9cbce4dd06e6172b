"""What the detectors see in tiles that go to people: one box a nucleus, from a score on."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.layers import nms

from ..strategies import Detections
from ..strategies.box_match import ONE_NUCLEUS_IOU
from .pool import PoolScorer


def pre_annotations(
    scorer: PoolScorer,
    keys: Sequence[str],
    *,
    known_classes: Sequence[str],
    unknown_class: str,
    score_thresh: float,
) -> dict[str, dict]:
    """Drafts: key -> boxes [x, y, w, h] in tile pixels, classes, scores. Collective.

    Known nuclei are the target's detections, unknown ones those that the auxiliary, where there is one, calls unknown;
    from `score_thresh` on. One box a nucleus: of two that overlap by IoU .5 the target's stays, then the better one.
    """
    tables = {"target": scorer.run(Detections(over=tuple(keys)))}
    names = {"target": dict(enumerate(known_classes))}
    if (auxiliary := scorer.detectors.auxiliary) is not None:
        tables["auxiliary"] = scorer.run(Detections(over=tuple(keys), detector="auxiliary"))
        last = auxiliary.roi_heads.num_classes - 1
        names["auxiliary"] = {last: unknown_class}
    result = {}
    for key in keys:
        rows = [
            (box, names[detector][int(c)], float(score), detector == "target")
            for detector, table in tables.items()
            for box, c, score in zip(table[key]["boxes"], table[key]["classes"], table[key]["scores"])
            if int(c) in names[detector] and score >= score_thresh
        ]
        boxes = np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4)
        order = torch.tensor([score + of_target for _, _, score, of_target in rows], dtype=torch.float64)
        kept = nms(torch.from_numpy(boxes), order, ONE_NUCLEUS_IOU).tolist()
        boxes[:, 2:] -= boxes[:, :2]
        result[key] = {
            "boxes": boxes[kept].tolist(),
            "classes": [rows[i][1] for i in kept],
            "scores": [rows[i][2] for i in kept],
        }
    return result
