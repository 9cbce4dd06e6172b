"""COCO's AP at IoU .5 for fixed boxes, and the unknown nuclei that are taken for known ones.

Boxes never change, so which box overlaps which nucleus is computed once; an evaluation is a sort. A test holds it to
pycocotools.
"""

import numpy as np

_RECALLS = np.linspace(0.0, 1.0, 101)


def overlaps(boxes: np.ndarray, nuclei: np.ndarray, *, iou_thresh: float = 0.5) -> tuple[np.ndarray, ...]:
    """Pairs of boxes (n, 4) and nuclei (m, 4), xyxy, with an IoU of `iou_thresh` or more: (box, nucleus, IoU)."""
    if not len(boxes) or not len(nuclei):
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    a, b = boxes[:, None].astype(np.float64), nuclei[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(axis=-1)
    iou = common / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common)
    box, nucleus = np.nonzero(iou >= iou_thresh)
    return box, nucleus, iou[box, nucleus]


def true_positives(score: np.ndarray, box: np.ndarray, nucleus: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """(n,) bool for boxes of scores (n,): best score first, each takes the free nucleus that it overlaps most.

    box, nucleus, iou: the pairs of one class.
    """
    hit = np.zeros(len(score), dtype=bool)
    taken = set()
    decided = set()
    # Boxes by score, the nuclei of a box by overlap: a box is decided by its first free nucleus.
    for pair in np.lexsort((-iou, box, -score[box])).tolist():
        b, n = int(box[pair]), int(nucleus[pair])
        if b not in decided and n not in taken:
            decided.add(b)
            taken.add(n)
            hit[b] = True
    return hit


def average_precision(score: np.ndarray, hit: np.ndarray, *, nuclei: int) -> float:
    """AP in percent over 101 recalls. score, hit: (n,); nuclei: of the class, at least one."""
    order = np.argsort(-score, kind="stable")
    true = np.cumsum(hit[order])
    recall = true / nuclei
    precision = true / np.arange(1, len(true) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALLS - 1e-12, side="left")
    reached = at < len(precision)
    return float(100.0 * precision[at[reached]].sum() / len(_RECALLS))


def evaluate(
    scores: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    nucleus_class: np.ndarray,
    *,
    known: int,
    open_set_thresh: float = 0.5,
) -> dict:
    """
    Args:
        scores: (n, K) of the known classes for every box of the test images; every box is a detection of every class.
        pairs: what `overlaps` gives over all of them. nucleus_class: (m,), K for unknown.

    Returns:
        ap50: (K,) in percent, nan without nuclei; mAP50: the mean; aose: unknown nuclei that at least one detection
        takes with a score of `open_set_thresh` or more and which is no true positive.
    """
    box, nucleus, iou = pairs
    ap, free = [], np.ones(scores.shape, dtype=bool)
    for c in range(known):
        mine = nucleus_class[nucleus] == c
        hit = true_positives(scores[:, c], box[mine], nucleus[mine], iou[mine])
        count = int((nucleus_class == c).sum())
        ap.append(average_precision(scores[:, c], hit, nuclei=count) if count else float("nan"))
        free[:, c] = ~hit
    takes = ((scores >= open_set_thresh) & free).any(axis=1)
    unknown = (nucleus_class[nucleus] == known) & takes[box]
    return {"ap50": ap, "mAP50": float(np.nanmean(ap)), "aose": len(np.unique(nucleus[unknown]))}
