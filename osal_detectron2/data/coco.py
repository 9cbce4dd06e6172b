"""Any COCO data set plus a list of known classes, as an open-set Detectron2 data set."""

import logging
import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.data.coco_file import MIN_SIDE, check_known_classes, clip_box, parse_coco, read_coco

logger = logging.getLogger(__name__)

EVALUATOR_TYPE = "open_set_coco"
TRAIN_NAME, TEST_NAME = "osal_train", "osal_test"


def load_open_set_coco(
    json_file: str, image_root: str, known_classes: Sequence[str], name: str | None = None
) -> list[dict]:
    """Detectron2 records of a COCO file, one an image (also without annotations), sorted by `image_key`.

    A record has file_name (absolute), image_id, image_key (the COCO file_name), group (images[].group, else
    the key), height, width and annotations: bbox [x, y, w, h] in pixels (XYWH_ABS), category_id (index into
    `known_classes`, or K = len(known_classes) for every other class), category_name, iscrowd. Boxes are
    clipped at the border; those wholly outside are dropped; both are counted in the log under `name`.

    Raises DataError for an unusable file and ConfigError for an unusable list of known classes.
    """
    data = read_coco(json_file)
    names = {category["id"]: category["name"] for category in data["categories"]}
    check_known_classes(known_classes, list(names.values()), os.fspath(json_file))
    if not os.path.isdir(image_root):
        raise DataError(f"{image_root}: no such folder of images for {json_file}; check the image root")
    label = {class_name: index for index, class_name in enumerate(known_classes)}
    records = {image["id"]: _record(image, image_root) for image in data["images"]}
    clipped = dropped = 0
    for entry in data["annotations"]:
        record = records[entry["image_id"]]
        box = clip_box(entry["bbox"], record["width"], record["height"])
        if min(box[2:]) < MIN_SIDE:
            dropped += 1
            continue
        clipped += box != [float(value) for value in entry["bbox"]]
        category_name = names[entry["category_id"]]
        record["annotations"].append(
            {
                "bbox": box,
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": label.get(category_name, len(label)),
                "category_name": category_name,
                "iscrowd": int(entry.get("iscrowd", 0)),
            }
        )
    title = name or json_file
    if clipped:
        logger.warning("%s: %d boxes reached past their image and were clipped", title, clipped)
    if dropped:
        logger.warning("%s: %d boxes lay wholly outside their image and were dropped", title, dropped)
    return sorted(records.values(), key=lambda record: record["image_key"])


def register_open_set_coco(name: str, json_file: str, image_root: str, known_classes: Sequence[str]) -> None:
    """Register `name` in Detectron2's catalogs; images and boxes are read when the set is asked for.

    Metadata: thing_classes = known_classes, unknown_classes, json_file, image_root, evaluator_type. The file
    may be absent now (unknown_classes then follows when it is loaded). Registering again with the same
    arguments changes nothing; with others it replaces loader and metadata, where Detectron2's stock function
    would fail or keep the old loader.

    Raises ConfigError for an unusable list of known classes, DataError for a broken file.
    """
    json_file, image_root = os.path.abspath(json_file), os.path.abspath(image_root)
    if isinstance(known_classes, str) or not known_classes:
        check_known_classes(known_classes, [], json_file)
    known = list(known_classes)
    metadata = {
        "thing_classes": known,
        "known_classes": known,
        "json_file": json_file,
        "image_root": image_root,
        "evaluator_type": EVALUATOR_TYPE,
    }
    if name in DatasetCatalog.list():
        current = MetadataCatalog.get(name).as_dict()
        if all(current.get(key) == value for key, value in metadata.items()):
            return
        logger.warning("data set %s was registered with other arguments and is replaced", name)
        DatasetCatalog.remove(name)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    if os.path.exists(json_file):
        metadata["unknown_classes"] = _unknown_classes(json_file, known)
    DatasetCatalog.register(name, lambda: _load_registered(name, json_file, image_root, known))
    MetadataCatalog.get(name).set(**metadata)


def register_from_config(cfg) -> tuple[str, str | None]:
    """Names (train, test) of the data sets that `cfg` asks for; registers osal_train and osal_test where
    cfg.OSAL.DATA.TRAIN_JSON and TEST_JSON are given (an empty image root means the folder of the JSON).

    Without the JSON keys: DATASETS.TRAIN and DATASETS.TEST, each one registered set. Test may be left out: None.
    The config itself is not changed. Raises ConfigError naming the key, DataError for an unusable file.
    """
    data = cfg.OSAL.DATA
    if not data.TRAIN_JSON and not data.TEST_JSON:
        names = _single(cfg, "TRAIN"), _single(cfg, "TEST") if any(cfg.DATASETS.TEST) else None
        known = [getattr(MetadataCatalog.get(name), "known_classes", None) for name in names if name]
        if known[0] != known[-1]:
            raise ConfigError(
                f"DATASETS.TRAIN {names[0]} and DATASETS.TEST {names[1]} differ in their known classes "
                f"({known[0]} and {known[1]}); register both with the same list in the same order"
            )
        return names
    if not data.TRAIN_JSON:
        raise ConfigError("OSAL.DATA.TRAIN_JSON is empty; give the COCO JSON of the tiles to choose from")
    if not data.KNOWN_CLASSES:
        raise ConfigError("OSAL.DATA.KNOWN_CLASSES is empty; list the classes that the detector is for")
    for name, json_file, image_root in (
        (TRAIN_NAME, data.TRAIN_JSON, data.TRAIN_IMAGE_ROOT),
        (TEST_NAME, data.TEST_JSON, data.TEST_IMAGE_ROOT),
    ):
        if not json_file:
            continue
        image_root = image_root or os.path.dirname(os.path.abspath(json_file))
        if not os.path.exists(json_file):
            raise DataError(f"{json_file}: no such file; check OSAL.DATA.TRAIN_JSON and TEST_JSON")
        register_open_set_coco(name, json_file, image_root, list(data.KNOWN_CLASSES))
    return TRAIN_NAME, TEST_NAME if data.TEST_JSON else None


def _record(image: dict, image_root: str) -> dict:
    key = image["file_name"]
    group = image.get("group")
    origin = image.get("origin")  # where the tile was cut: QuPath shows it in its slide
    return ({} if origin is None else {"origin": origin}) | {
        "file_name": os.path.abspath(os.path.join(image_root, key)),
        "image_id": image["id"],
        "image_key": key,
        "group": key if group in (None, "") else str(group),
        "height": int(image["height"]),
        "width": int(image["width"]),
        "annotations": [],
    }


def _unknown_classes(json_file: str, known: list[str]) -> list[str]:
    """Category names that are not known, in the file's order; checks `known` on the way."""
    names = [entry.get("name") for entry in parse_coco(json_file)["categories"] if isinstance(entry, dict)]
    check_known_classes(known, names, json_file)
    return [name for name in names if name not in known]


def _load_registered(name: str, json_file: str, image_root: str, known: list[str]) -> list[dict]:
    """The loader behind a registered name. Every image must exist: better now than hours into a run."""
    records = load_open_set_coco(json_file, image_root, known, name=name)
    missing = [record["image_key"] for record in records if not os.path.isfile(record["file_name"])]
    if missing:
        raise DataError(
            f"{json_file}: {len(missing)} of {len(records)} images are not in {image_root}, first "
            f"{missing[0]}; check the image root"
        )
    metadata = MetadataCatalog.get(name)
    unknown = _unknown_classes(json_file, known)
    if getattr(metadata, "unknown_classes", None) != unknown:  # first load, or the file has changed
        metadata.__dict__.pop("unknown_classes", None)
        metadata.unknown_classes = unknown
    return records


def _single(cfg, split: str) -> str:
    names = getattr(cfg.DATASETS, split)
    key = f"DATASETS.{split}"
    if len(names) != 1 or not names[0]:
        raise ConfigError(f"{key} must name one data set, got {tuple(names)}; or fill OSAL.DATA.{split}_JSON")
    if names[0] not in DatasetCatalog.list():
        raise ConfigError(
            f"{key} names {names[0]}, which is not registered; call register_open_set_coco first"
        )
    return names[0]
