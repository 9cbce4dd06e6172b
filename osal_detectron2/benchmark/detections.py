"""What detectors find on a tile, side by side: found, missed and extra nuclei (Fig. 5)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch, Rectangle

from ..core.boxes import pairwise_iou
from ..evaluation.matching import claimed
from ..evaluation.palette import EXTRA_COLOR, UNKNOWN_COLOR, WHITE, class_color
from .layout import COLUMN, PAGE, PAPER


@dataclass(frozen=True)
class Boxes:
    """N boxes on a tile: xyxy (N, 4) in pixels, classes (N,), scores (N,) or None for ground truth.

    A class below K is known; every other class counts as unknown.
    """

    xyxy: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Matching:
    """found (N,): nuclei of known classes that a detection claims. extra, on_unknown (M,): detections that claim none,
    and those of them that lie on a nucleus of an unknown class."""

    found: np.ndarray
    extra: np.ndarray
    on_unknown: np.ndarray


def match_detections(truth: Boxes, detected: Boxes, *, num_known: int, iou_thresh: float = 0.5) -> Matching:
    """Match as average precision does: best score first, each claims the free nucleus of its class it covers best.

    A detection of the wrong class is therefore extra, and its nucleus missed unless another one claims it.
    """
    iou = pairwise_iou(detected.xyxy, truth.xyxy)
    known = np.asarray(truth.classes) < num_known
    own = known & (np.asarray(detected.classes)[:, None] == truth.classes)
    rows = claimed(np.where(own, iou, -1.0), np.asarray(detected.scores, float), iou_thresh=iou_thresh)
    found, extra = np.zeros(len(known), bool), rows < 0
    found[rows[~extra]] = True
    return Matching(found, extra, extra & (iou[:, ~known] >= iou_thresh).any(axis=1))


def draw_detections(
    images: Sequence[np.ndarray],
    truths: Sequence[Boxes],
    detected: Mapping[str, Sequence[Boxes]],
    *,
    known_classes: Sequence[str],
    iou_thresh: float = 0.5,
) -> Figure:
    """One row a tile: its annotation, then one column a method.

    images: (H, W, 3) RGB uint8. detected: title -> the detections on each tile, above the score wanted already.
    Below each panel: known nuclei found, detections that are extra, and how many of those lie on unknown nuclei.
    """
    columns = 1 + len(detected)
    width = PAGE if columns > 2 else COLUMN
    side = width / columns
    heights = [side * image.shape[0] / image.shape[1] for image in images]
    with rc_context(PAPER | {"axes.grid": False, "axes.titlesize": 8}):
        height = sum(heights) + 0.3 * len(images) + 0.25 + 0.18 * _legend_rows(known_classes, width)
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0.0, hspace=0.0)
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(images), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
        for row, (image, truth) in enumerate(zip(images, truths)):
            known = np.asarray(truth.classes) < len(known_classes)
            _show(axes[row, 0], image, f"{known.sum()} known\n{(~known).sum()} unknown")
            _draw_boxes(axes[row, 0], truth, ~known, "unknown", len(known_classes))
            _draw_boxes(axes[row, 0], truth, known, "found", len(known_classes))
            for axis, found in zip(axes[row, 1:], detected.values()):
                _draw_panel(
                    axis, image, truth, found[row], num_known=len(known_classes), iou_thresh=iou_thresh
                )
        for axis, title in zip(axes[0], ["Annotation", *detected]):
            axis.set_title(title, pad=3)
        handles = _legend(known_classes)
        figure.legend(
            handles=[handle for handle, _ in handles],
            labels=[label for _, label in handles],
            handler_map={tuple: HandlerTuple(ndivide=1)},
            loc="outside lower center",
            ncols=math.ceil(len(handles) / _legend_rows(known_classes, width)),
            frameon=False,
            handlelength=1.4,
            columnspacing=1.2,
        )
    return figure


def _draw_panel(axis, image, truth: Boxes, detected: Boxes, *, num_known: int, iou_thresh: float) -> None:
    matching = match_detections(truth, detected, num_known=num_known, iou_thresh=iou_thresh)
    known = np.asarray(truth.classes) < num_known
    extra, on_unknown = matching.extra.sum(), matching.on_unknown.sum()
    _show(
        axis, image, f"found {matching.found.sum()} of {known.sum()}\nextra {extra}, {on_unknown} on unknown"
    )
    _draw_boxes(axis, truth, ~known, "unknown", num_known)
    _draw_boxes(axis, detected, ~matching.extra, "found", num_known)
    _draw_boxes(axis, detected, matching.extra, "extra", num_known)
    _draw_boxes(axis, truth, known & ~matching.found, "missed", num_known)


def _show(axis, image: np.ndarray, caption: str) -> None:
    axis.imshow(image, interpolation="lanczos")
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(caption, fontsize=7, labelpad=2)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_boxes(axis, boxes: Boxes, chosen: np.ndarray, kind: str, num_known: int) -> None:
    for (x0, y0, x1, y1), index in zip(np.asarray(boxes.xyxy)[chosen], np.asarray(boxes.classes)[chosen]):
        look = _look(kind, class_color(int(index)) if index < num_known else None)
        # A dark rim shows pale lines on pale tissue; it goes all the way round, also under dashes.
        rim = {"edgecolor": "black", "linewidth": look["linewidth"] + 0.9, "linestyle": "-"}
        place = ((x0, y0), x1 - x0, y1 - y0)
        axis.add_patch(Rectangle(*place, fill=False, gid="rim", **rim))
        axis.add_patch(Rectangle(*place, fill=False, gid=kind, **look))


def _look(kind: str, color: str | None) -> dict:
    if kind == "extra":
        return {"edgecolor": EXTRA_COLOR, "linewidth": 0.9, "hatch": "xxxxx"}
    if kind == "unknown":
        return {"edgecolor": UNKNOWN_COLOR, "linewidth": 1.0, "linestyle": (0, (2.5, 1.8))}
    return {"edgecolor": color, "linewidth": 1.1, "linestyle": (0, (0.8, 0.8)) if kind == "missed" else "-"}


def _legend(known_classes: Sequence[str]) -> list[tuple[tuple[Patch, Patch], str]]:
    """(the rim and the box on it, label) of each kind of box."""

    def entry(label: str, kind: str, color: str | None = None) -> tuple[tuple[Patch, Patch], str]:
        look = _look(kind, color)
        rim = Patch(facecolor="#8a7a90", edgecolor="black", linewidth=look["linewidth"] + 1.2)
        return (rim, Patch(fill=False, **look)), label

    return [
        *(entry(name.replace("_", " "), "found", class_color(i)) for i, name in enumerate(known_classes)),
        entry("missed (in its class's colour)", "missed", WHITE),
        entry("extra", "extra"),
        entry("unknown nucleus", "unknown"),
    ]


def _legend_rows(known_classes: Sequence[str], width: float) -> int:
    letters = sum(map(len, known_classes)) + 50 + 6 * (len(known_classes) + 3)
    return math.ceil(letters * 0.065 / width)
