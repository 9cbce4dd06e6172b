"""Labelled sets that the screening wrote down, as data sets and schedules for a real training."""

import math
from collections.abc import Mapping, Sequence

from osal_detectron2.core.errors import DataError

TILE_SIDE = 250  # IMS_PER_BATCH counts tiles of this side; smaller regions come in as many pixels


def labelled_regions(cell: Mapping, price_index: int) -> list[str]:
    """Names of all regions that a cell had labelled at its price number `price_index`."""
    return [key for point in cell["points"][: price_index + 1] for key in point["queried"]]


def tile_name(region: str) -> str:
    """The file that `osal data tile` writes for a region: `train_1_x000250_y000000_s250` without its side."""
    return region.rsplit("_s", 1)[0] + ".png"


def subset(data: Mapping, regions: Sequence[str]) -> dict:
    """The COCO data of tiles, of these regions alone. Raises DataError for a region that is no tile of it."""
    wanted = {tile_name(region) for region in regions}
    images = [image for image in data["images"] if image["file_name"] in wanted]
    if len(images) != len(wanted):
        missing = sorted(wanted - {image["file_name"] for image in images})
        raise DataError(
            f"{len(missing)} regions are no tile, such as {missing[0]}: cut the images with the side of the regions"
        )
    ids = {image["id"] for image in images}
    return {**data, "images": images, "annotations": [a for a in data["annotations"] if a["image_id"] in ids]}


def class_agnostic(data: Mapping, parents: Sequence[str]) -> dict:
    """The COCO data of the tiles of some images (names without suffix), every nucleus of the one class "nucleus"."""
    images = [image for image in data["images"] if image["group"].rsplit(".", 1)[0] in parents]
    ids = {image["id"] for image in images}
    nuclei = [{**a, "category_id": 1} for a in data["annotations"] if a["image_id"] in ids]
    return {**data, "images": images, "annotations": nuclei, "categories": [{"id": 1, "name": "nucleus"}]}


def known_nuclei(data: Mapping, known: Sequence[str]) -> int:
    ids = {c["id"] for c in data["categories"] if c["name"] in known}
    return sum(a["category_id"] in ids for a in data["annotations"])


def iterations(*, views: int, tiles: int, nuclei: int, batch: int) -> int:
    """Steps of `batch` tiles after which the labelled nuclei were seen `views` times in all.

    Dense sets get fewer steps than sparse ones: what is equal is how often labels are seen, not tiles.
    """
    if not nuclei:
        raise DataError(f"none of the {tiles} labelled tiles has a known nucleus: nothing to train on")
    return max(1, math.ceil(views * tiles / (batch * nuclei)))


def schedule_options(side: int, *, batch: int, roi: int, rpn: int) -> list[str]:
    """Config options that give regions of any side the pixels, RoIs and anchors a step of `batch` 250 px tiles."""
    scale = (TILE_SIDE / side) ** 2
    return [
        *("SOLVER.IMS_PER_BATCH", str(round(batch * scale))),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", str(max(8, round(roi / scale)))),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", str(max(8, round(rpn / scale)))),
    ]


def views_that_converge(curve: Mapping[int, float], *, gain: float) -> int | None:
    """The fewest views after which the next step of the curve adds less than `gain`; None if none does."""
    steps = sorted(curve)
    for now, then in zip(steps, steps[1:]):
        if curve[then] - curve[now] < gain:
            return now
    return None
