"""From a record to the input of a detector: read, augment, convert. Errors name the file."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from PIL import UnidentifiedImageError

from ..core.errors import DataError


class TileMapper:
    """Callable that turns a record (see data/coco.py) into a Detectron2 input dict.

    Args:
        augmentations: Detectron2 augmentations, applied to image and boxes.
        image_format: INPUT.FORMAT of the model.
        with_labels: add "instances" with gt_boxes and gt_classes (K for unknown nuclei). Tiles without nuclei give
            empty instances and are not dropped.
        cache: a dict shared by mappers that keeps decoded images by file name, or None.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        with_labels: bool,
        cache: dict | None = None,
    ) -> None:
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.with_labels = with_labels
        self.cache = cache

    def read(self, record: dict) -> np.ndarray:
        """The decoded tile (H, W, 3), uint8. Raises DataError for a missing, truncated or wrongly sized file."""
        path = record["file_name"]
        if self.cache is not None and path in self.cache:
            return self.cache[path]
        try:
            image = detection_utils.read_image(path, format=self.image_format)
            image = np.array(image)  # torch wants it writable
        except FileNotFoundError:
            raise DataError(
                f"{path}: the image is missing; restore it or remove its entry from the JSON"
            ) from None
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
            raise DataError(f"{path}: the image cannot be read ({error}); replace the damaged file") from None
        if image.shape[:2] != (record["height"], record["width"]):
            raise DataError(
                f"{path}: the image is {image.shape[1]}x{image.shape[0]}, but the JSON says "
                f"{record['width']}x{record['height']}; correct the JSON (osal data check lists all such files)"
            )
        if self.cache is not None:
            self.cache[path] = image
        return image

    def __call__(self, record: dict) -> dict:
        return self.convert(record, self.read(record))

    def convert(self, record: dict, image: np.ndarray) -> dict:
        """The input dict of a record whose decoded tile (H, W, 3) is `image`."""
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        image = augmented.image
        shape = image.shape[:2]
        result = {k: record[k] for k in ("file_name", "image_id", "image_key", "height", "width")}
        result["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if self.with_labels:
            annotations = [
                detection_utils.transform_instance_annotations(copy.copy(a), transforms, shape)
                for a in record["annotations"]
                if not a.get("iscrowd", 0)
            ]
            instances = detection_utils.annotations_to_instances(annotations, shape)
            result["instances"] = detection_utils.filter_empty_instances(instances)
        return result


def resize_from_config(cfg, *, train: bool) -> list[T.Augmentation]:
    """The resize of INPUT.*: MIN_SIZE 0 leaves the tile at its own size, as in Detectron2."""
    node = cfg.INPUT
    sizes, longest, style = (node.MIN_SIZE_TEST,), node.MAX_SIZE_TEST, "choice"
    if train:
        sizes, longest, style = node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING
    return [] if tuple(sizes) == (0,) else [T.ResizeShortestEdge(sizes, longest, style)]


def unused_settings(cfg) -> list[str]:
    """For each setting of Detectron2's own loader that `cfg` changes and rounds do not read, what to do instead."""
    found = []
    if cfg.INPUT.CROP.ENABLED:
        found.append("INPUT.CROP is not used: cut the tiles that you want with osal data tile")
    flip, flips, sampler = cfg.INPUT.RANDOM_FLIP, cfg.OSAL.DATA.FLIPS, cfg.DATALOADER.SAMPLER_TRAIN
    # "horizontal" is Detectron2's default, so nobody need have chosen it.
    if flip == "vertical" or (flip == "none" and flips):
        found.append(f"INPUT.RANDOM_FLIP {flip} is not used: OSAL.DATA.FLIPS, which is {flips}, decides")
    if sampler != "TrainingSampler":
        found.append(
            f"DATALOADER.SAMPLER_TRAIN {sampler} is not used: each labelled tile comes once an epoch"
        )
    return found


def mapper_from_config(cfg, *, train: bool, with_labels: bool, cache: dict | None = None) -> TileMapper:
    """Resize as INPUT.* says; in training both flips if OSAL.DATA.FLIPS (nuclei have no orientation)."""
    augmentations = resize_from_config(cfg, train=train)
    if train and cfg.OSAL.DATA.FLIPS:
        augmentations += [T.RandomFlip(horizontal=h, vertical=not h) for h in (True, False)]
    return TileMapper(
        augmentations=augmentations, image_format=cfg.INPUT.FORMAT, with_labels=with_labels, cache=cache
    )
