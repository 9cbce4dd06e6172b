"""Overlap of boxes, with numpy alone."""

from __future__ import annotations

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
