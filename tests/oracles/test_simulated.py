import pytest

from osal_detectron2.core.errors import DataError
from osal_detectron2.oracles.simulated import label


def record(key, *annotations, mode=1):
    return {
        "image_key": key,
        "annotations": [
            {"bbox": box, "bbox_mode": mode, "category_id": 0, "category_name": name, "iscrowd": 0}
            for name, box in annotations
        ],
    }


def test_all_classes_are_answered_and_empty_tiles_have_their_state():
    records = [record("a", ("tumor", [1, 2, 3, 4]), ("debris", [5, 6, 7.5, 8])), record("b"), record("c")]
    answers = label(records, ["b", "a"], class_names=["tumor", "debris"])
    assert list(answers) == ["b", "a"]
    assert answers["b"].state == "reviewed_empty" and answers["b"].boxes == ()
    assert answers["a"].state == "labelled" and answers["a"].annotator == "simulated"
    assert answers["a"].classes == ("tumor", "debris")
    assert answers["a"].boxes == ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.5, 8.0))


@pytest.mark.parametrize(
    "bad, word",
    [
        (record("a", ("dust", [0, 0, 1, 1])), "dust"),
        (record("a", ("tumor", [0, 0, 1, 1]), mode=0), "XYWH_ABS"),
        (record("x"), "tile a is not in the training set"),
    ],
)
def test_what_it_cannot_answer(bad, word):
    with pytest.raises(DataError, match=word):
        label([bad], ["a"], class_names=["tumor"])


def test_a_crowd_region_is_no_nucleus():
    crowd = {"bbox": [1, 1, 5, 5], "bbox_mode": 1, "category_name": "tumor", "iscrowd": 1}
    records = [{"image_key": "a.png", "annotations": [crowd]}]
    assert label(records, ["a.png"], class_names=["tumor"])["a.png"].state == "reviewed_empty"
