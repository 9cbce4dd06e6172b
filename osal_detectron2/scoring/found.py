"""What the detectors found on a few tiles, as plain numbers: for pictures."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..strategies import Detections
from ..strategies.box_match import best_match
from .pool import PoolScorer

MIN_IOU = 0.5
SCORE_THRESH = 0.3  # lowest score that is shown, as in `osal predict`


def looks_unknown(boxes: np.ndarray, auxiliary: Mapping[str, np.ndarray], *, rule: str) -> np.ndarray:
    """(n,) 1 unknown, 0 known, NaN where the auxiliary detector found no nucleus at IoU 0.5 or more.

    Args:
        boxes: (n, 4) xyxy of the target's detections.
        auxiliary: boxes (m, 4), labelled_unknown (m,) bool and, but for the rule "label", dist_known and dist_unknown
            (m,), of the same image.
        rule: "proto" D_unk < D_kno of the matching box (paper section 2.3 counts the others as known), "label", "both".
    """
    flags = np.full(len(boxes), np.nan)
    if not len(boxes) or not len(auxiliary["boxes"]):
        return flags
    rows, overlap = best_match(boxes, auxiliary["boxes"])
    unknown = np.asarray(auxiliary["labelled_unknown"], bool)
    if rule != "label":
        nearer = np.asarray(auxiliary["dist_unknown"]) < np.asarray(auxiliary["dist_known"])
        unknown = nearer if rule == "proto" else nearer & unknown
    matched = overlap >= MIN_IOU
    flags[matched] = unknown[rows[matched]]
    return flags


def found_on(
    scorer: PoolScorer,
    keys: Sequence[str],
    known_classes: Sequence[str],
    *,
    prototypes: bool,
    seed: int = 0,
    round_index: int = 0,
) -> dict[str, dict]:
    """{key: boxes [x, y, w, h] in tile pixels, classes, scores, looks_unknown} of the target's detections. Collective.

    looks_unknown is True, False or None, by the auxiliary's prototypes as they are now; prototypes=False: always None.
    What a query with the same seed and round_index has computed already costs no further pass.
    """
    if not keys:
        return {}
    options = {"seed": seed, "round_index": round_index}
    table = scorer.run(Detections(over=tuple(keys)), **options)
    fields = ("dist_known", "dist_unknown")
    other = {}
    if prototypes:
        other = scorer.run(Detections(over=tuple(keys), detector="auxiliary", fields=fields), **options)
    result: dict[str, dict] = {}
    for key, row in table.items():
        kept = row["scores"] >= SCORE_THRESH
        boxes = row["boxes"][kept].astype(float)
        flags = np.full(len(boxes), np.nan)
        if prototypes:
            flags = looks_unknown(
                boxes, {**other[key], "labelled_unknown": other[key]["classes"] > 0}, rule="proto"
            )
        boxes[:, 2:] -= boxes[:, :2]
        result[key] = {
            "boxes": boxes.round(2).tolist(),
            "classes": [known_classes[c] for c in row["classes"][kept]],
            "scores": [float(f"{s:.4f}") for s in row["scores"][kept]],
            "looks_unknown": [None if np.isnan(flag) else bool(flag) for flag in flags],
        }
    return result
