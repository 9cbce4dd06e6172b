"""Every finding of the data-set check, each set off by one fault in a miniature data set."""

import numpy as np
import pytest
from miniature_set import KNOWN, serious
from PIL import Image

from osal_detectron2.core.errors import DataError
from osal_detectron2.data.checks import check_dataset
from osal_detectron2.data.coco_file import ERROR, INFO, WARNING
from osal_detectron2.data.duplicates import difference_hash, lookalikes


def test_a_clean_set_has_nothing_but_its_table(mini):
    findings = mini.check()
    assert {(finding.level, finding.check) for finding in findings} == {(INFO, "class-count")}
    assert [finding.message.split(": ", 1)[1] for finding in findings][:3] == [
        "known class tumor: 1 boxes in 1 images",
        "known class lymphocyte: 1 boxes in 1 images",
        "unknown class stroma: 1 boxes in 1 images",
    ]


def box(*values):
    return lambda mini: mini.train["annotations"][0].update(bbox=list(values))


def entry(key, row, **changes):
    return lambda mini: mini.train[key][row].update(changes)


def cut_file_short(mini):
    path = mini.folder / "train2.png"
    path.write_bytes(path.read_bytes()[:-500])


def share_group(mini):
    mini.test["images"][1]["group"] = "train-slide"


def share_image(mini):
    mini.test["images"][1]["file_name"] = "train2.png"


def copy_pixels(source, target):
    return lambda mini: mini.draw(target, mini.pixels(source))


def shrink_to_fractions(mini):
    for annotation in mini.train["annotations"]:
        annotation["bbox"] = [0.1, 0.1, 0.4, 0.4]


def relabel(split, old, new):
    def fault(mini):
        for annotation in getattr(mini, split)["annotations"]:
            if annotation["category_id"] == old:
                annotation["category_id"] = new

    return fault


def crowd_with_known(mini):
    mini.train["annotations"] += [
        {"id": 10 + n, "image_id": 1, "category_id": 1, "bbox": [n, 20, 8, 9]} for n in range(40)
    ]


def repeat_box(mini):
    mini.train["annotations"].append({**mini.train["annotations"][0], "id": 9, "category_id": 2})


def remove_boxes(mini):
    mini.train["annotations"] = []


@pytest.mark.parametrize(
    ("fault", "expected", "words"),
    [
        (
            lambda mini: (mini.folder / "train2.png").unlink(),
            [(ERROR, "image-missing")],
            "train2.png: no such",
        ),
        (cut_file_short, [(ERROR, "image-damaged")], "train2.png: cannot be decoded"),
        (entry("images", 0, width=61), [(ERROR, "image-size")], "is 60x40, the JSON says 61x40"),
        (entry("images", 0, width=None), [(ERROR, "image-size")], "train1.png) has width None"),
        (entry("images", 0, file_name="train2.png"), [(ERROR, "image-name")], "repeats file_name"),
        (entry("images", 0, id=2), [(ERROR, "image-id"), (ERROR, "annotation-image")], "repeats image id 2"),
        (entry("annotations", 0, id=2), [(ERROR, "annotation-id")], "repeats annotation id 2"),
        (entry("annotations", 0, category_id=8), [(ERROR, "annotation-category")], "category_id 8"),
        (entry("annotations", 0, image_id=8), [(ERROR, "annotation-image")], "image_id 8"),
        (box(60, 5, 4, 4), [(ERROR, "box-outside")], "annotation 1 of train1.png"),
        (box(55, 5, 10, 10), [(WARNING, "box-past-border")], "1 of 3 boxes reach past"),
        (box(5, 5, 0, 10), [(ERROR, "box-zero")], "annotation 1 of train1.png"),
        (box(5, 5, -2, 10), [(ERROR, "box-negative")], "annotation 1 of train1.png"),
        (box(5, float("nan"), 2, 10), [(ERROR, "box-nan")], "annotation 1 of train1.png"),
        (box("5", 5, 2, 10), [(ERROR, "box-form")], "annotation 1 of train1.png"),
        (shrink_to_fractions, [(ERROR, "box-unit")], "no box coordinate is above 1"),
        (repeat_box, [(WARNING, "box-repeated")], "first annotation 9"),
        (entry("annotations", 0, id=0), [(WARNING, "annotation-zero")], "COCOeval"),
        (entry("categories", 0, name="tumour"), [(ERROR, "known-typo")], "did you mean 'tumour'?"),
        (
            relabel("train", 1, 3),
            [(ERROR, "known-absent")],
            "tumor: 0 boxes in 0 images; it cannot be learnt",
        ),
        (relabel("test", 1, 3), [(WARNING, "known-absent")], "test.json: known class tumor: 0 boxes"),
        (
            relabel("train", 2, 1),
            [(WARNING, "unknown-class-absent"), (WARNING, "unknown-absent")],
            "no unknown nucleus",
        ),
        (crowd_with_known, [(WARNING, "unknown-rare")], "only 2.3 % of the boxes"),
        (
            remove_boxes,
            [(WARNING, "unlabelled")],
            "no box at all; such a run starts where people label",
        ),
        (share_group, [(ERROR, "leak-group")], "1 groups are in both"),
        (share_image, [(ERROR, "leak-image"), (ERROR, "leak-content")], "first"),
        (copy_pixels("train2.png", "test3.png"), [(ERROR, "leak-content")], "train2.png of"),
        (
            copy_pixels("train2.png", "train3.png"),
            [(WARNING, "image-repeated")],
            "train3.png has the same pixels",
        ),
    ],
)
def test_one_fault_one_finding(mini, fault, expected, words):
    fault(mini)
    findings = mini.check()
    assert serious(findings) == expected
    assert any(words in str(finding) for finding in findings)
    assert all(finding.remedy for finding in findings if finding.level != INFO)


@pytest.mark.parametrize(
    ("known", "expected"), [([], (ERROR, "known-empty")), (["tumor"] * 2, (ERROR, "known-duplicate"))]
)
def test_unusable_known_classes(mini, known, expected):
    assert set(serious(mini.check(known=known))) == {expected}


def test_every_fault_is_listed_not_only_the_first(mini):
    for annotation in mini.train["annotations"]:
        annotation["bbox"] = [1, 1, 0, 0]
    mini.test["annotations"][2]["bbox"] = [1, 1]
    findings = mini.check()
    assert serious(findings) == [(ERROR, "box-zero")] * 3 + [(ERROR, "box-form")]
    assert sum(finding.check == "stopped" for finding in findings) == 2


def test_information_that_is_no_fault(mini):
    mini.train["annotations"][0]["image_id"] = 2
    for image in mini.test["images"]:
        del image["group"]
    glass = np.full((40, 60, 3), 240, dtype=np.uint8)
    for name in ("train1.png", "train3.png", "test1.png"):  # bare glass is neither a repetition nor leakage
        mini.draw(name, glass)
    findings = mini.check()
    assert serious(findings) == []
    info = {finding.check: str(finding) for finding in findings if finding.check != "class-count"}
    assert set(info) == {"tile-empty", "group-absent"}
    assert (
        "train.json: 1 of 3 images have no box" in info["tile-empty"] and "test.json" in info["group-absent"]
    )


def test_equal_names_in_different_folders_are_no_leakage(mini, tmp_path):
    (tmp_path / "other").mkdir()
    for image in mini.test["images"]:
        (tmp_path / image["file_name"]).rename(
            tmp_path / "other" / image["file_name"].replace("test", "train")
        )
        image["file_name"] = image["file_name"].replace("test", "train")
    assert serious(mini.check(other_root=str(tmp_path / "other"))) == []


def test_a_json_that_cannot_be_parsed_is_an_error(mini):
    mini.arguments()
    (mini.folder / "train.json").write_text('{"images": [')
    with pytest.raises(DataError, match="truncated"):
        check_dataset(f"{mini.folder}/train.json", str(mini.folder), KNOWN)


def test_the_same_tile_saved_again_is_named_within_a_set_and_an_error_across(mini):
    smooth = np.asarray(
        Image.fromarray(np.random.default_rng(5).integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((60, 40))
    )
    mini.draw("train2.png", smooth)
    again = np.clip(smooth.astype(int) + np.random.default_rng(6).integers(-6, 7, smooth.shape), 0, 255)
    mini.draw("train3.png", again.astype(np.uint8))
    assert serious(mini.check()) == [(WARNING, "image-similar")]
    mini.draw("train3.png", mini.pixels("train1.png") // 2)
    mini.draw("test1.png", again.astype(np.uint8))
    findings = mini.check()
    assert serious(findings) == [(WARNING, "image-similar"), (ERROR, "leak-similar")]
    assert "train3.png looks like train1.png" in str(findings) and "train2.png of" in str(findings)


def test_glass_looks_like_nothing():
    noise = np.random.default_rng(0).integers(246, 250, (2, 40, 40, 3), dtype=np.uint8)
    assert [difference_hash(Image.fromarray(tile)) for tile in noise] == [b"", b""]
    assert lookalikes([b"", b""]) == []


def test_thousands_of_tiles_are_compared_in_blocks():
    hashes = [row.tobytes() for row in np.random.default_rng(0).integers(0, 256, (1200, 64), dtype=np.uint8)]
    near = bytearray(hashes[3])
    near[0] ^= 255
    assert lookalikes([*hashes, bytes(near)]) == [(1200, 3)]
    assert lookalikes([bytes(near)], hashes) == [(0, 3)]


def test_twins_of_one_parent_and_their_nuclei_are_counted(mini):
    for x, (image, entry) in enumerate(zip(mini.test["images"], mini.test["annotations"])):
        image["origin"] = {"parent": "p.png", "x": (0, 25, 300)[x], "y": 0, "width": 60, "height": 40}
        entry["parent_id"] = (4, 4, 5)[x]
    findings = mini.check()
    assert serious(findings) == [(WARNING, "tile-overlap"), (WARNING, "nucleus-repeated")]
    text = " ".join(map(str, findings))
    assert "2 of 3 tiles share most of their area with another, first test1.png with test2.png" in text
    assert "1 of 2 nuclei stand in more than one tile" in text
    mini.test["images"][1]["origin"]["x"] = 31
    assert serious(mini.check()) == [(WARNING, "nucleus-repeated")]


def test_a_set_that_people_are_to_label_is_no_error(mini):
    mini.train = {"images": mini.train["images"]}
    mini.test["annotations"] = []
    findings = mini.check()
    assert serious(findings) == [(WARNING, "unlabelled")] * 2
    text = " ".join(map(str, findings))
    assert "OSAL.ORACLE.NAME human" in text and "nothing can be measured on it" in text
