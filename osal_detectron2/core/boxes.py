"""Overlap of boxes, and which of them are one nucleus, with numpy alone."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (..., R, B) of boxes (..., R, 4) and (..., B, 4) xyxy, without the "+1" of older codes; 0 between empty."""
    first = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)[..., None]
    second = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)[..., None, :]
    # Sides of their own: products over an axis of length 2 would take most of the time.
    width = np.minimum(first[2], second[2]) - np.maximum(first[0], second[0])
    height = np.minimum(first[3], second[3]) - np.maximum(first[1], second[1])
    common = width.clip(min=0) * height.clip(min=0)
    areas = [(x1 - x0).clip(min=0) * (y1 - y0).clip(min=0) for x0, y0, x1, y1 in (first, second)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def pairwise_iou_xywh(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """`pairwise_iou` of boxes (x, y, w, h); either may be empty."""
    corners = []
    for boxes in (first, second):
        array = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        corners.append(np.hstack([array[:, :2], array[:, :2] + array[:, 2:]]))
    return pairwise_iou(*corners)


def nuclei_of(
    boxes: Sequence[Sequence[Sequence[float]]],
    classes: Sequence[Sequence[str]],
    *,
    class_first: bool,
    iou_thresh: float = 0.5,
) -> list[dict[int, int]]:
    """Which boxes of several people are one nucleus: {person: row of her box} each, in order of the first box.

    Greedy: the pair of boxes with the largest IoU is one nucleus, then the next, down to `iou_thresh`; nobody has two
    boxes in one. boxes: (x, y, w, h) of each person; classes: of these boxes; class_first: pairs of one class come
    before pairs of two. The result does not depend on the order of the people or of their boxes.
    """
    place = [[(tuple(box), name) for box, name in zip(*one)] for one in zip(boxes, classes)]
    pairs = []
    for i, j in combinations(range(len(boxes)), 2):
        iou = pairwise_iou_xywh(boxes[i], boxes[j])
        for a, b in zip(*(iou >= iou_thresh).nonzero()):
            two = class_first and classes[i][a] != classes[j][b]
            pairs.append((two, -iou[a, b], sorted([place[i][a], place[j][b]]), (i, int(a)), (j, int(b))))
    group = {(i, a): {i: a} for i, rows in enumerate(boxes) for a in range(len(rows))}
    for *_, first, second in sorted(pairs):
        if not group[first].keys() & group[second].keys():
            group[first] |= group[second]
            for i, a in group[second].items():
                group[i, a] = group[first]
    return list({id(nucleus): nucleus for nucleus in group.values()}.values())
