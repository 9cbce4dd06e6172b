"""Reading any COCO file as an open-set data set, and the message for each fault of a file."""

import copy
import json
import logging
import os
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from osal_detectron2.config import add_osal_config
from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.data.coco import load_open_set_coco, register_from_config, register_open_set_coco

CONSEP = Path(os.environ.get("OSAL_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "consep"
KNOWN = ["tumor", "lymphocyte"]


def sound() -> dict:
    """Two tiles; b.png first in the file, without boxes and without a group."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30, "group": "slide-1"},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 30, "bbox": [1, 2, 5, 6]},
            {"id": 2, "image_id": 3, "category_id": 10, "bbox": [2, 2, 5.5, 6], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 20, "bbox": [3, 2, 5, 6], "iscrowd": 0},
        ],
        "categories": [
            {"id": 10, "name": "stroma"},
            {"id": 20, "name": "lymphocyte"},
            {"id": 30, "name": "tumor"},
        ],
    }


def write(folder: Path, data: dict, name: str = "set.json") -> str:
    for image in data.get("images", []):
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            Image.new("RGB", (40, 30)).save(folder / Path(image["file_name"]).name)
    (folder / name).write_text(json.dumps(data))
    return str(folder / name)


@pytest.fixture
def catalog_name():
    name = "osal_test_coco"
    yield name
    for registered in (name, "osal_train", "osal_test"):
        if registered in DatasetCatalog.list():
            DatasetCatalog.remove(registered)
        if registered in MetadataCatalog.list():
            MetadataCatalog.remove(registered)


def test_records_follow_the_contract(tmp_path):
    first, second = load_open_set_coco(write(tmp_path, sound()), str(tmp_path), KNOWN)
    assert first["image_key"] == "a.png" and first["file_name"] == str(tmp_path / "a.png")
    assert (first["image_id"], first["group"], first["height"], first["width"]) == (3, "slide-1", 30, 40)
    assert [entry["category_id"] for entry in first["annotations"]] == [0, 2, 1]
    assert [entry["category_name"] for entry in first["annotations"]] == ["tumor", "stroma", "lymphocyte"]
    assert [entry["iscrowd"] for entry in first["annotations"]] == [0, 1, 0]
    assert first["annotations"][1]["bbox"] == [2.0, 2.0, 5.5, 6.0]
    assert {entry["bbox_mode"] for entry in first["annotations"]} == {BoxMode.XYWH_ABS}
    assert (second["image_key"], second["group"], second["annotations"]) == ("b.png", "b.png", [])
    assert "origin" not in first


def test_a_record_says_where_its_tile_was_cut(tmp_path):
    data, origin = sound(), {"parent": "slide.svs", "x": 4000, "y": 600, "downsample": 2}
    data["images"][0]["origin"] = origin
    records = load_open_set_coco(write(tmp_path, data), str(tmp_path), KNOWN)
    assert [record.get("origin") for record in records].count(origin) == 1


def test_category_ids_follow_the_order_of_the_known_classes(tmp_path):
    path = write(tmp_path, sound())
    record = load_open_set_coco(path, str(tmp_path), ["stroma", "tumor"])[0]
    assert [entry["category_id"] for entry in record["annotations"]] == [1, 0, 2]


def test_boxes_past_the_border_are_clipped_and_counted(tmp_path, caplog):
    data = sound()
    data["annotations"][0]["bbox"] = [-3, 25, 10, 10]
    data["annotations"][1]["bbox"] = [40, 0, 5, 5]  # wholly outside: touches the border only
    with caplog.at_level(logging.WARNING):
        record = load_open_set_coco(write(tmp_path, data), str(tmp_path), KNOWN, name="mine")[0]
    assert [entry["bbox"] for entry in record["annotations"]] == [[0, 25, 7, 5], [3, 2, 5, 6]]
    assert "mine: 1 boxes reached past" in caplog.text and "mine: 1 boxes lay wholly outside" in caplog.text


def broken(**changes):
    """A sound file with entries changed: broken(annotations__0__bbox=...). `...` removes the key."""
    data = copy.deepcopy(sound())
    for path, value in changes.items():
        *keys, last = [int(key) if key.isdigit() else key for key in path.split("__")]
        target = data
        for key in keys:
            target = target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return data


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (broken(images=...), ['"images" is missing', "export as COCO"]),
        (broken(annotations=None), ['"annotations" is not a list']),
        (broken(categories={}), ['"categories" is not a list']),
        (broken(images__0=3), ["images[0] is not an object"]),
        (broken(images__0__file_name=...), ["images[0]", "no file_name"]),
        (broken(images__0__width=...), ["images[0] (b.png) has no width"]),
        (broken(images__0__height=0), ["b.png", "height 0"]),
        (broken(images__0__height=30.5), ["b.png", "height 30.5"]),
        (broken(images__1__file_name="b.png"), ["images[1] repeats file_name 'b.png' of images[0]"]),
        (broken(images__1__file_name="../b.png"), ["'../b.png'", "leaves the image folder"]),
        (broken(images__1__file_name="C:\\x\\b.png"), ["leaves the image folder"]),
        (broken(images__1__id=7), ["images[1] repeats image id 7 of images[0]"]),
        (broken(images__1__id="7"), ["images[1] has id '7'", "whole-number"]),
        (broken(annotations__1__id=1), ["annotations[1] repeats annotation id 1"]),
        (broken(annotations__1__id=...), ["annotations[1] has no id"]),
        (broken(annotations__1__image_id=99), ["annotation 2", "image_id 99"]),
        (broken(annotations__1__image_id=[3]), ["annotation 2", "image_id [3]"]),
        (broken(annotations__1__category_id=99), ["annotation 2 of a.png", "category_id 99"]),
        (broken(annotations__1__iscrowd=2), ["annotation 2 of a.png", "iscrowd 2"]),
        (broken(annotations__2__bbox=[0, NAN, 3, 3]), ["annotation 3 of a.png", "not finite"]),
        (broken(annotations__2__bbox=[0, 0, INF, 3]), ["annotation 3 of a.png", "not finite"]),
        (broken(annotations__2__bbox=[9, 9, -3, 3]), ["annotation 3 of a.png", "negative", "two corners"]),
        (broken(annotations__2__bbox=[9, 9, 3, 0]), ["annotation 3 of a.png", "without area"]),
        (broken(annotations__2__bbox=[9, 9, 3]), ["annotation 3 of a.png", "four numbers"]),
        (broken(annotations__2__bbox=[9, 9, 3, None]), ["annotation 3 of a.png", "four numbers"]),
        (broken(annotations__2__bbox=...), ["annotation 3 of a.png", "four numbers"]),
        (
            broken(categories__1__name="tumor"),
            ["categories[2] repeats the name 'tumor'"],
        ),
        (broken(categories__1__name=...), ["categories[1] has no name"]),
        (broken(categories__1__id=30), ["repeats category id 30"]),
    ],
)
def test_a_fault_is_named_with_file_and_entry(tmp_path, data, words):
    path = write(tmp_path, data)
    with pytest.raises(DataError) as caught:
        load_open_set_coco(path, str(tmp_path), KNOWN)
    message = str(caught.value)
    assert path in message and all(word in message for word in words)


def test_files_that_are_no_coco_json(tmp_path):
    whole = json.dumps(sound())
    for text, word in (
        (whole[: len(whole) // 2], "truncated"),
        ("", "empty"),
        ("[1, 2]", "JSON object"),
        ("{'images': []}", "not valid JSON at line 1"),
        ("\x00\xff", "UTF-8"),
    ):
        path = tmp_path / "bad.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=word) as caught:
            load_open_set_coco(str(path), str(tmp_path), KNOWN)
        assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="absent.json: no such file"):
        load_open_set_coco(str(tmp_path / "absent.json"), str(tmp_path), KNOWN)


def test_a_folder_is_told_apart_and_the_tool_for_it_named(tmp_path):
    with pytest.raises(DataError, match="is a folder, not a COCO JSON; osal data config --images"):
        load_open_set_coco(str(tmp_path), str(tmp_path), KNOWN)


def test_tiles_that_nobody_labelled_need_no_classes_of_their_own(tmp_path):
    path = write(tmp_path, {"images": sound()["images"]})
    assert [r["annotations"] for r in load_open_set_coco(path, str(tmp_path), KNOWN)] == [[], []]
    with pytest.raises(ConfigError, match="listed twice"):
        load_open_set_coco(path, str(tmp_path), ["tumor", "tumor"])
    with pytest.raises(DataError, match='"categories" is missing'):  # whose classes are these?
        load_open_set_coco(write(tmp_path, broken(categories=...)), str(tmp_path), KNOWN)


@pytest.mark.parametrize("cut", [1, 2, 10, 40, 100, 300])
def test_every_cut_is_called_truncated(tmp_path, cut):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(sound())[:-cut])
    with pytest.raises(DataError, match="truncated"):
        load_open_set_coco(str(path), str(tmp_path), KNOWN)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = write(tmp_path, sound())
    Path(path).write_text(json.dumps(sound()), encoding="utf-8-sig")
    assert len(load_open_set_coco(path, str(tmp_path), KNOWN)) == 2


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([], ["list of names", "stroma"]),
        ("tumor", ["list of names"]),
        (["tumor", "Lymphocite"], ["'Lymphocite'", "did you mean 'lymphocyte'?"]),
        (["tumor", "tumor"], ["'tumor' is listed twice"]),
    ],
)
def test_unusable_known_classes(tmp_path, known, words):
    path = write(tmp_path, sound())
    with pytest.raises(ConfigError) as caught:
        load_open_set_coco(path, str(tmp_path), known)
    assert all(word in str(caught.value) for word in words)


def test_registering_again_replaces_loader_and_metadata(tmp_path, catalog_name):
    path = write(tmp_path, sound())
    for _ in range(2):  # identical arguments: harmless
        register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    metadata = MetadataCatalog.get(catalog_name)
    assert metadata.thing_classes == metadata.known_classes == KNOWN
    assert metadata.unknown_classes == ["stroma"] and metadata.evaluator_type == "open_set_coco"
    assert (metadata.json_file, metadata.image_root) == (path, str(tmp_path))

    other = sound()
    other["images"] = other["images"][1:]
    register_open_set_coco(catalog_name, write(tmp_path, other, "other.json"), str(tmp_path), ["stroma"])
    records = DatasetCatalog.get(catalog_name)
    assert [record["image_key"] for record in records] == ["a.png"]
    assert [entry["category_id"] for entry in records[0]["annotations"]] == [1, 0, 1]
    metadata = MetadataCatalog.get(catalog_name)
    assert metadata.thing_classes == ["stroma"] and metadata.unknown_classes == ["lymphocyte", "tumor"]


def test_registration_is_lazy_and_follows_the_file(tmp_path, catalog_name):
    path = str(tmp_path / "later.json")
    register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    with pytest.raises(DataError, match="no such file"):
        DatasetCatalog.get(catalog_name)
    data = sound()
    write(tmp_path, data, "later.json")
    assert len(DatasetCatalog.get(catalog_name)) == 2
    assert MetadataCatalog.get(catalog_name).unknown_classes == ["stroma"]
    data["categories"].append({"id": 40, "name": "debris"})
    write(tmp_path, data, "later.json")
    DatasetCatalog.get(catalog_name)
    assert MetadataCatalog.get(catalog_name).unknown_classes == ["stroma", "debris"]


def test_a_registered_set_without_its_images_fails_at_once(tmp_path, catalog_name):
    path = write(tmp_path, sound())
    (tmp_path / "b.png").unlink()
    register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    with pytest.raises(DataError, match="1 of 2 images are not in .* first b.png"):
        DatasetCatalog.get(catalog_name)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_open_set_coco(path, str(tmp_path / "nowhere"), KNOWN)


def config():
    cfg = get_cfg()
    add_osal_config(cfg)
    return cfg


def test_register_from_config_alone(tmp_path, catalog_name):
    cfg = config()
    cfg.OSAL.DATA.TRAIN_JSON = cfg.OSAL.DATA.TEST_JSON = write(tmp_path, sound())
    cfg.OSAL.DATA.TEST_IMAGE_ROOT = str(tmp_path)
    with pytest.raises(ConfigError, match="KNOWN_CLASSES is empty"):
        register_from_config(cfg)
    cfg.OSAL.DATA.KNOWN_CLASSES = KNOWN
    before = cfg.dump()
    assert register_from_config(cfg) == ("osal_train", "osal_test")
    assert cfg.dump() == before
    assert len(DatasetCatalog.get("osal_train")) == len(DatasetCatalog.get("osal_test")) == 2
    cfg.OSAL.DATA.TEST_JSON, cfg.OSAL.DATA.TRAIN_JSON = "", cfg.OSAL.DATA.TEST_JSON
    assert register_from_config(cfg) == ("osal_train", None)
    cfg.OSAL.DATA.TEST_JSON, cfg.OSAL.DATA.TRAIN_JSON = cfg.OSAL.DATA.TRAIN_JSON, ""
    with pytest.raises(ConfigError, match="OSAL.DATA.TRAIN_JSON is empty"):
        register_from_config(cfg)
    cfg.OSAL.DATA.TRAIN_JSON = str(tmp_path / "absent.json")
    with pytest.raises(DataError, match="absent.json"):
        register_from_config(cfg)


def test_register_from_config_with_registered_names(tmp_path, catalog_name):
    cfg = config()
    with pytest.raises(ConfigError, match="DATASETS.TRAIN must name one"):
        register_from_config(cfg)
    path = write(tmp_path, sound())
    register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (catalog_name,), ("nowhere_registered",)
    with pytest.raises(ConfigError, match="DATASETS.TEST names nowhere_registered"):
        register_from_config(cfg)
    cfg.DATASETS.TEST = (catalog_name,)
    assert register_from_config(cfg) == (catalog_name, catalog_name)
    register_open_set_coco("osal_test", path, str(tmp_path), KNOWN[::-1])
    cfg.DATASETS.TEST = ("osal_test",)
    with pytest.raises(ConfigError, match="differ in their known classes"):
        register_from_config(cfg)


@pytest.mark.skipif(not CONSEP.is_dir(), reason="CoNSeP is not beside the repository (OSAL_SHARED)")
def test_consep_has_the_boxes_of_its_json():
    known = ["malignant_epithelial", "inflammatory"]
    records = load_open_set_coco(str(CONSEP / "train.json"), str(CONSEP / "images"), known)
    assert len(records) == 27
    ids = [entry["category_id"] for record in records for entry in record["annotations"]]
    assert [ids.count(index) for index in range(3)] == [4426, 3877, 7090]
