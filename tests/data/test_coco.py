"""Reading any COCO file as an open-set data set, and the message for each fault of a file."""

import copy
import json
import logging
import os
from pathlib import Path

import pytest
from detectron2.structures import BoxMode
from miniature_set import KNOWN, sound, write_set

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.data.coco import load_open_set_coco

CONSEP = Path(os.environ.get("OSAL_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "consep"


def test_records_follow_the_contract(tmp_path):
    first, second = load_open_set_coco(write_set(tmp_path, sound()), str(tmp_path), KNOWN)
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
    records = load_open_set_coco(write_set(tmp_path, data), str(tmp_path), KNOWN)
    assert [record.get("origin") for record in records].count(origin) == 1


def test_category_ids_follow_the_order_of_the_known_classes(tmp_path):
    path = write_set(tmp_path, sound())
    record = load_open_set_coco(path, str(tmp_path), ["stroma", "tumor"])[0]
    assert [entry["category_id"] for entry in record["annotations"]] == [1, 0, 2]


def test_boxes_past_the_border_are_clipped_and_counted(tmp_path, caplog):
    data = sound()
    data["annotations"][0]["bbox"] = [-3, 25, 10, 10]
    data["annotations"][1]["bbox"] = [40, 0, 5, 5]  # wholly outside: touches the border only
    with caplog.at_level(logging.WARNING):
        record = load_open_set_coco(write_set(tmp_path, data), str(tmp_path), KNOWN, name="mine")[0]
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
    path = write_set(tmp_path, data)
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
    path = write_set(tmp_path, {"images": sound()["images"]})
    assert [r["annotations"] for r in load_open_set_coco(path, str(tmp_path), KNOWN)] == [[], []]
    with pytest.raises(ConfigError, match="listed twice"):
        load_open_set_coco(path, str(tmp_path), ["tumor", "tumor"])
    with pytest.raises(DataError, match='"categories" is missing'):  # whose classes are these?
        load_open_set_coco(write_set(tmp_path, broken(categories=...)), str(tmp_path), KNOWN)


@pytest.mark.parametrize("cut", [1, 2, 10, 40, 100, 300])
def test_every_cut_is_called_truncated(tmp_path, cut):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(sound())[:-cut])
    with pytest.raises(DataError, match="truncated"):
        load_open_set_coco(str(path), str(tmp_path), KNOWN)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = write_set(tmp_path, sound())
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
    path = write_set(tmp_path, sound())
    with pytest.raises(ConfigError) as caught:
        load_open_set_coco(path, str(tmp_path), known)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.skipif(not CONSEP.is_dir(), reason="CoNSeP is not beside the repository (OSAL_SHARED)")
def test_consep_has_the_boxes_of_its_json():
    known = ["malignant_epithelial", "inflammatory"]
    records = load_open_set_coco(str(CONSEP / "train.json"), str(CONSEP / "images"), known)
    assert len(records) == 27
    ids = [entry["category_id"] for record in records for entry in record["annotations"]]
    assert [ids.count(index) for index in range(3)] == [4426, 3877, 7090]
