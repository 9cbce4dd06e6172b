"""Tiles, and how a view of them looks to a detector."""

import numpy as np
from detectron2.data import transforms as T
from PIL import Image

from osal_detectron2.data.mapper import TileMapper
from osal_detectron2.scoring.views import ViewMapper

HEIGHT, WIDTH = 90, 120
SQUARE = np.array([70.0, 20.0, 95.0, 45.0])
BOXES = np.array([SQUARE, [10, 10, 40, 30], [5, 60, 60, 85]])


def write(folder, image, name="a.png"):
    """A tile on disk and its record."""
    Image.fromarray(image).save(folder / name)
    return {
        "file_name": str(folder / name), "image_id": 0, "image_key": name, "height": image.shape[0],
        "width": image.shape[1], "annotations": [],
    }  # fmt: skip


def mapper(short_edge=0):
    resize = [T.ResizeShortestEdge((short_edge,), 10_000, "choice")] if short_edge else []
    return TileMapper(augmentations=resize, image_format="RGB", with_labels=False)


def seen(record, view, *, reference=BOXES, short_edge=0, seed=0, round_index=0):
    look = ViewMapper(
        mapper(short_edge),
        view,
        seed=seed,
        round_index=round_index,
        reference={record["image_key"]: reference},
    )
    return look(record)
