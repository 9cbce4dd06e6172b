"""How large the tiles were that a detector was trained on."""

from pathlib import Path
from statistics import median

from detectron2.data import MetadataCatalog

from ..core.errors import DataError
from ..core.store import read_json
from ..data.coco_file import parse_coco
from .load import METADATA, Detector


def training_tile(detector: Detector) -> int | None:
    """Median of the longer sides of the training tiles in pixels; None where their JSON is not to be found.

    Paths in the config of a run are relative to the folder in which training was started.
    """
    exported = detector.folder / METADATA
    if exported.is_file():
        return read_json(exported).get("input", {}).get("training_tile")
    path = next(iter(detector.train_sets), "")
    if path in MetadataCatalog.list():
        path = MetadataCatalog.get(path).get("json_file", "")
    if not path or not Path(path).is_file():
        return None
    try:
        return round(median(max(i["width"], i["height"]) for i in parse_coco(path)["images"]))
    except (DataError, KeyError, TypeError, ValueError):
        return None
