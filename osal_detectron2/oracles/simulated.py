"""The oracle of an experiment: it looks up the labels that the data set already has."""

from collections.abc import Iterable, Mapping, Sequence

from ..core.errors import DataError
from ..core.labels import LABELLED, REVIEWED_EMPTY, LabelFile, TileLabels
from .base import Oracle, Question, register

_XYWH_ABS = 1  # detectron2's BoxMode.XYWH_ABS; this module imports no detectron2


@register
class SimulatedOracle(Oracle):
    """Answers with the annotations of the records, all classes, known and unknown, at once."""

    name = "simulated"
    from_data = True

    def at_once(self, keys: Sequence[str]) -> dict[str, TileLabels]:
        return label(self.records, keys, class_names=self.class_names)

    def answer(self, question: Question) -> LabelFile:
        return LabelFile(classes=self.class_names, tiles=self.at_once(question.keys))


def label(
    records: Iterable[Mapping], keys: Sequence[str], *, class_names: Sequence[str]
) -> dict[str, TileLabels]:
    """The labels that `records` have of the tiles `keys`; a tile without a nucleus is "reviewed_empty".

    records: dataset dicts with "image_key" and "annotations" of {"bbox": xywh, "bbox_mode", "category_name"}.
    class_names: all class names that may occur. Raises DataError for another class or box format.
    """
    found = {record["image_key"]: record for record in records}
    return {key: _label(key, found, class_names) for key in keys}


def _label(key: str, records: Mapping[str, Mapping], class_names: Sequence[str]) -> TileLabels:
    if key not in records:
        raise DataError(f"tile {key} is not in the training set: it was changed since the run was started")
    # A crowd region is not a nucleus that anybody would draw.
    annotations = [a for a in records[key]["annotations"] if not a.get("iscrowd", 0)]
    for annotation in annotations:
        if annotation["category_name"] not in class_names:
            raise DataError(f"tile {key}: class {annotation['category_name']!r} is not among {class_names}")
        if annotation.get("bbox_mode", _XYWH_ABS) != _XYWH_ABS:
            raise DataError(f"tile {key}: the oracle reads boxes as x, y, width, height (XYWH_ABS) only")
    return TileLabels(
        state=LABELLED if annotations else REVIEWED_EMPTY,
        boxes=[annotation["bbox"] for annotation in annotations],
        classes=[annotation["category_name"] for annotation in annotations],
    )
