"""What suits a data set and a machine: each choice as a config key, its value and the reason. Numpy only.

Pure functions of the parsed COCO data; `proposed_config` finds out about machine and weights and writes the file.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osal_detectron2.data.detector_fit import POOR_ANCHOR_IOU, best_anchor_iou, box_sizes_after_resize

RATIOS = (0.5, 1.0, 2.0)
STRIDES = (4, 8, 16, 32, 64)  # of the levels p2 to p6
TYPICAL_SIDE = 20.0  # pixels of a nucleus at 40x, where no box tells
SIDES_AS_THEY_ARE = (12.0, 40.0)  # median sides that a detector with a stride of 4 takes without resizing
GPU_SHORT_SIDE, GPU_LONG_SIDE = 800, 1333  # of Base-OSAL-R50-FPN.yaml
MANY_UNKNOWN, FEW_UNKNOWN = 0.3, 0.05  # shares of the boxes


@dataclass(frozen=True)
class Setting:
    """`key` with dots, `value` as YAML can hold it, and why."""

    key: str
    value: object
    why: str


def box_sides(data: dict, *, resized_to: int = 0) -> np.ndarray:
    """(n, 2) sides of the nuclei of `data` (no crowd regions), after a resize of the shorter side (0: none)."""
    nuclei = [entry for entry in data["annotations"] if not entry.get("iscrowd", 0)]
    return box_sizes_after_resize({**data, "annotations": nuclei}, resized_to, GPU_LONG_SIDE)


def short_side(data: dict) -> int:
    """The median shorter side of the images, in pixels."""
    return int(np.median([min(image["width"], image["height"]) for image in data["images"]]))


def input_size(sides: np.ndarray, tile: int) -> tuple[int, str]:
    """(shorter side to resize to, 0 for none; why) for a detector that is trained on a CPU.

    sides: (n, 2) of the nuclei in pixels. tile: shorter side of a tile.
    """
    median = float(np.median(np.sqrt(sides.prod(axis=1))))
    low, high = SIDES_AS_THEY_ARE
    if low <= median <= high:
        why = f"Tiles as they are: half of the nuclei are below {median:.0f} px, which suits a stride of 4."
        return 0, why
    wanted = low * 1.5 if median < low else high / 2
    size = max(64, round(tile * wanted / median))
    why = f"Half of the nuclei are below {median:.0f} px; resized, below {median * size / tile:.0f} px."
    return size, why


def anchor_sizes(sides: np.ndarray) -> tuple[list[list[int]], str]:
    """(anchor sizes of p2 to p6, why) for nuclei of `sides` (n, 2) as the detector sees them.

    The first three span the 5th to the 95th percentile of sqrt(w * h), the others double; no anchor is below 1.5
    strides of its level, since anchors that stand further apart than their size miss nuclei in between.
    """
    root = np.sqrt(sides.prod(axis=1))
    low, high = np.percentile(root, [5, 95])
    spread = [low, math.sqrt(low * high), high]
    sizes = [max(round(size), 6 * stride // 4) for size, stride in zip(spread, STRIDES)]
    for stride in STRIDES[len(sizes) :]:
        sizes.append(max(2 * sizes[-1] * 3 // 4, 6 * stride // 4))
    sizes = [int(size) for size in np.maximum.accumulate(sizes)]
    poor = float((best_anchor_iou(sides, sizes, RATIOS) < POOR_ANCHOR_IOU).mean())
    why = f"Nuclei have sides of {low:.0f} to {high:.0f} px (5 to 95 %); {100 * poor:.0f} % of them meet no anchor."
    return [[size] for size in sizes], why


def detection_limit(*parts: dict) -> tuple[int, str]:
    """(TEST.DETECTIONS_PER_IMAGE, why): half more than the fullest tile holds."""
    most = max(max(Counter(e["image_id"] for e in d["annotations"]).values(), default=0) for d in parts)
    limit = max(300, 50 * math.ceil(1.5 * most / 50))
    return limit, f"The fullest tile has {most} boxes." if most else "More than a dense tile holds."


def unknown_share(data: dict, known: Sequence[str]) -> float | None:
    """Share of the boxes that are of no known class; None without boxes."""
    names = {category["id"]: category["name"] for category in data["categories"]}
    classes = [names[e["category_id"]] for e in data["annotations"] if not e.get("iscrowd", 0)]
    return sum(name not in known for name in classes) / len(classes) if classes else None


def strategy(share: float | None) -> Setting:
    """Which rule asks, by the share of unknown nuclei (docs/strategies.md has the measurements)."""
    name = "osal_nd_plus"
    if share is None:
        why = "How many nuclei are unknown is not known yet; by the tile it was never behind random."
    elif share >= MANY_UNKNOWN:
        why = f"{100 * share:.0f} % of the boxes are unknown: at a half it was 2 points ahead of random by tile."
    elif share >= FEW_UNKNOWN:
        why = f"{100 * share:.0f} % of the boxes are unknown: at 15 % it was 1 point ahead of random by tile."
    else:
        name = "random"
        why = f"{100 * share:.0f} % of the boxes are unknown: at 2 % no rule was ahead of random, which costs nothing."
    if name != "random":
        why += " At equal minutes of annotation it was behind: take random if minutes are what you pay."
    why += " osal_nd is the rule of the paper; in our measurements it was behind random. All: docs/strategies.md."
    return Setting("OSAL.STRATEGY", name, why)


def budget(total: int, *, nuclei_per_tile: float | None, small: bool, people: bool) -> list[Setting]:
    """Tiles of the first set and of each query, and the number of queries, for a pool of `total` tiles."""
    first = min(max(1, total // 4), max(8, math.ceil(0.05 * total)))
    query = min(max(1, total // 5), max(4, math.ceil(0.1 * total)))
    if people:  # half a day of work is a batch
        first, query = min(first, 40), min(query, 40)
    queries = max(0, min(3 if small else 5, math.ceil((total - first) / query)))
    cost = ""
    if nuclei_per_tile is not None:
        hours = query * (15 + 3 * nuclei_per_tile) / 3600
        cost = f" About {hours:.1f} hours of work: {nuclei_per_tile:.0f} nuclei a tile, 15 s a tile and 3 s a nucleus."
    end = f"{first + queries * query} tiles are labelled at the end, or all."
    return [
        Setting("OSAL.BUDGET.INIT_TILES", first, f"Of {total} tiles, at random: enough to begin with."),
        Setting("OSAL.BUDGET.QUERY_TILES", query, f"The tiles of a query.{cost}"),
        Setting("OSAL.BUDGET.NUM_QUERIES", queries, end),
    ]


def known_per_tile(data: dict) -> float | None:
    """Mean boxes of the tiles; None without boxes."""
    return len(data["annotations"]) / len(data["images"]) if data["annotations"] else None
