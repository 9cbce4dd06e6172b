"""Detections of overlapping windows of an image put together, each nucleus once."""

from collections.abc import Mapping, Sequence

import numpy as np

SAME_IOU, SAME_INSIDE = 0.5, 0.7
EDGE = 1.0  # pixels: a box this near to the border of its window may be cut


def concatenate(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of tables with the same columns, one after another."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def merge_windows(
    tables: Sequence[Mapping[str, np.ndarray]],
    windows: Sequence[tuple[float, float, float, float]],
    *,
    size: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:
    """One table in pixels of the image, best score first.

    A nucleus that several windows show is kept once, whatever classes they give it (`once_each`). What a window shows
    beyond its extent (padding) is dropped.

    Args:
        tables: of each window, with boxes (n, 4) xyxy relative to its corner, and scores (n,).
        windows: (x, y, width, height) of each in the image.
        size: (width, height) of the image; None: as far as the windows reach.
    """
    shifted, owners, cut = [], [], []
    if size is None:
        size = max(x + w for x, _, w, _ in windows), max(y + h for _, y, _, h in windows)
    for index, (table, (x, y, width, height)) in enumerate(zip(tables, windows)):
        boxes = table["boxes"].clip([0, 0, 0, 0], [width, height, width, height])
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes = boxes[inside]
        # Borders that the window shares with the image cut nothing.
        inner = np.array([x > 0, y > 0, x + width < size[0], y + height < size[1]])
        gap = np.abs(boxes - np.array([0, 0, width, height]))
        cut.append(((gap <= EDGE) & inner).any(axis=1))
        owners.append(np.full(len(boxes), index))
        moved = boxes + np.array([x, y, x, y], dtype=boxes.dtype)
        shifted.append({**{name: values[inside] for name, values in table.items()}, "boxes": moved})
    table = concatenate(shifted)
    keep = once_each(table["boxes"], table["scores"], np.concatenate(owners), np.concatenate(cut))
    return {name: values[keep] for name, values in table.items()}


def once_each(boxes: np.ndarray, scores: np.ndarray, owners: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Rows to keep, best score first, by a class-agnostic NMS between windows.

    Uncut boxes go first, then the better score. A box gives way to one of *another* window with IoU >= 0.5, or which
    shares 0.7 of the smaller of the two: a cut nucleus lies inside the whole one without much IoU. Boxes of one window
    are left to the detector's own NMS.

    Args:
        boxes: (n, 4) xyxy of the image; scores, owners (index of the window), cut (bool): (n,).
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    # Sorted by their left side, boxes that can overlap lie in one stretch.
    by_left = np.argsort(boxes[:, 0], kind="stable")
    left = boxes[by_left, 0]
    widest = (boxes[:, 2] - boxes[:, 0]).max(initial=0.0)
    gone = np.zeros(len(boxes), bool)
    done = np.zeros(len(boxes), bool)
    for row in np.lexsort((np.arange(len(boxes)), -np.asarray(scores, np.float64), np.asarray(cut, bool))):
        if gone[row]:
            continue
        done[row] = True
        begin, end = np.searchsorted(left, [boxes[row, 0] - widest, boxes[row, 2]], side="left")
        others = by_left[begin:end]
        others = others[(owners[others] != owners[row]) & ~done[others] & ~gone[others]]
        sides = np.minimum(boxes[others, 2:], boxes[row, 2:]) - np.maximum(boxes[others, :2], boxes[row, :2])
        common = sides.clip(min=0).prod(axis=1)
        smaller = np.minimum(areas[others], areas[row])
        same = (common >= SAME_IOU * (areas[others] + areas[row] - common)) | (
            common >= SAME_INSIDE * smaller
        )
        gone[others[same & (common > 0)]] = True
    rows = np.flatnonzero(~gone)
    return rows[np.argsort(-np.asarray(scores, np.float64)[rows], kind="stable")]
