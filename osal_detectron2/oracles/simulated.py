"""The oracle of an experiment: it looks up the labels that the data set already has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..core.errors import DataError
from ..core.labels import LABELLED, REVIEWED_EMPTY, TileLabels

_XYWH_ABS = 1  # detectron2's BoxMode.XYWH_ABS; this module imports no detectron2


class SimulatedOracle:
    """Answers with the annotations of the records, all classes, known and unknown.

    records: dataset dicts with "image_key" and "annotations" of {"bbox": xywh, "bbox_mode", "category_name"}.
    class_names: all class names that may occur. Raises DataError for another class or box format.
    """

    def __init__(self, records: Iterable[Mapping], class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self._records = {record["image_key"]: record for record in records}

    def label(self, keys: Sequence[str]) -> dict[str, TileLabels]:
        """The labels of these tiles, at once; a tile without a nucleus is "reviewed_empty"."""
        return {key: self._label(key) for key in keys}

    def _label(self, key: str) -> TileLabels:
        if key not in self._records:
            raise DataError(
                f"tile {key} is not in the training set: it was changed since the run was started"
            )
        # A crowd region is not a nucleus that anybody would draw.
        annotations = [a for a in self._records[key]["annotations"] if not a.get("iscrowd", 0)]
        for annotation in annotations:
            if annotation["category_name"] not in self.class_names:
                raise DataError(
                    f"tile {key}: class {annotation['category_name']!r} is not among {self.class_names}"
                )
            if annotation.get("bbox_mode", _XYWH_ABS) != _XYWH_ABS:
                raise DataError(f"tile {key}: the oracle reads boxes as x, y, width, height (XYWH_ABS) only")
        return TileLabels(
            state=LABELLED if annotations else REVIEWED_EMPTY,
            boxes=[annotation["bbox"] for annotation in annotations],
            classes=[annotation["category_name"] for annotation in annotations],
        )
