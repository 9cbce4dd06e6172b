"""What may be damage that nobody meant is asked about, and a hint never says more than it knows."""

import pytest
from waiting_run import BATCH, CLASSES, POOL, batch, export, files, foreign, put, reviewed

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.oracles.exchange import import_batch


def refused(run, tmp_path, content, **options):
    path, before = put(tmp_path, content), files(run)
    with pytest.raises(DataError) as error:
        import_batch(run, path, **options)
    assert files(run) == before
    return str(error.value)


def doubled(run, name):
    """The batch, reviewed, with a second box of class `name` on the first nucleus (a tumour), half a pixel aside."""
    content = reviewed(run, tile0="done", tile1="done", tile2="done")
    again = {**content["annotations"][0], "id": 99, "bbox": [10.5, 10, 20, 20]}
    content["annotations"].append({**again, "category_id": CLASSES.index(name) + 1})
    return content


def test_a_nucleus_with_two_boxes_of_one_class(run, tmp_path):
    text = refused(run, tmp_path, doubled(run, "tumor"))
    assert f"1 boxes are there twice (one class, IoU .9 or more) in 1 tiles: {BATCH[0]} (1)" in text
    report = import_batch(run, put(tmp_path, doubled(run, "tumor")), accept=["duplicates"])
    assert report.boxes == {"tumor": 2, "lymphocyte": 1} and "left out" in str(report)
    assert LabelFile.read(run / "rounds/000/labels.json").tiles[BATCH[0]].boxes[0] == (10, 10, 20, 20)


def test_a_nucleus_with_two_classes(run, tmp_path):
    text = refused(run, tmp_path, doubled(run, "debris"), accept=["duplicates"])
    assert f"boxes of two classes (IoU .9 or more): {BATCH[0]} (tumor/debris)" in text
    report = import_batch(run, put(tmp_path, doubled(run, "debris")), accept=["two-classes"])
    assert report.boxes == {"tumor": 2, "lymphocyte": 1, "debris": 1}


def test_a_draft_that_was_only_thinned_out(run, tmp_path):
    content = foreign(run)
    content["annotations"][0]["bbox"][0] -= 3  # as it was
    del content["annotations"][1]
    text = refused(run, tmp_path, content)
    assert (
        "1 tiles are their pre-annotations with some deleted" in text and f"{BATCH[0]} (1 of 2 left)" in text
    )
    assert import_batch(run, put(tmp_path, content), accept=["thinned"]).labelled == (BATCH[0],)
    content["annotations"][0]["bbox"][0] += (
        3  # one of those that are left was moved: somebody worked on the tile
    )
    assert import_batch(run, put(tmp_path, content)).labelled == (BATCH[0],)
    said = reviewed(run, tile0="done")  # or says so
    del said["annotations"][1]
    assert import_batch(run, put(tmp_path, said)).labelled == (BATCH[0],)


def test_tiles_without_a_box_that_nobody_may_have_opened(run, tmp_path):
    content = foreign(run)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 102]
    text = refused(run, tmp_path, content, treat_empty_as="empty")
    assert "2 tiles have no box and would become labels" in text and f"{BATCH[0]}, {BATCH[2]}" in text
    assert "nobody opened" in text and "--opened" in text
    text = refused(run, tmp_path, content, treat_empty_as="empty", opened=["tile4.jpg"])
    assert "--opened names tile4.jpg" in text
    with pytest.raises(ConfigError, match="goes with"):
        import_batch(run, put(tmp_path, content), opened=[BATCH[2]])
    report = import_batch(run, put(tmp_path, content), treat_empty_as="empty", opened=[BATCH[2]])
    assert report.reviewed_empty == (BATCH[2],) and BATCH[0] in report.pending_keys
    report = import_batch(run, put(tmp_path, content), accept=["unchanged"], opened=[BATCH[1]])
    assert report.labelled == (BATCH[1],)


def test_all_doubts_and_faults_come_at_once(run, tmp_path):
    content = foreign(run)
    content["annotations"] += [
        {**content["annotations"][0], "id": 7},
        {**content["annotations"][1], "id": 8, "category_id": 4},
        {"id": 9, "image_id": 102, "category_id": 6, "bbox": [0, 0, -1, 1]},
    ]
    text = refused(run, tmp_path, content, treat_empty_as="empty")
    assert "4 problem(s)" in text


@pytest.mark.parametrize("name", ["mitosis", "nontumor", "Plasma cell", "x"])
def test_a_class_is_not_proposed_because_it_is_there(run, tmp_path, name):
    content = foreign(run)
    content["categories"][0]["name"] = name
    text = refused(run, tmp_path, content)
    assert f"--map-class '{name}=CLASS' if it is another name of one of these, take its boxes out" in text
    assert "tumor, lymphocyte, debris" in text and f"{name}=tumor" not in text


@pytest.mark.parametrize("name", ["Tumor", "tumour", " tumor"])
def test_a_near_spelling_is_proposed(run, tmp_path, name):
    content = foreign(run)
    content["categories"][0]["name"] = name
    assert f"--map-class '{name}=tumor'" in refused(run, tmp_path, content)


def test_a_run_with_the_class_unknown_offers_it(run, images, tmp_path):
    (run / "rounds/000/query/request.json").unlink()
    export(run, images, classes=[*CLASSES, "unknown"])
    assert (
        '"unknown" is enough for a nucleus of none of these: tumor.'
        in (run / "rounds/000/query/README.txt").read_text()
    )
    content = foreign(run)
    content["categories"][0]["name"] = "mitosis"
    assert "--map-class 'mitosis=unknown' if it is none" in refused(run, tmp_path, content)
    assert import_batch(run, put(tmp_path, content), map_class={"mitosis": "unknown"}).boxes["unknown"] == 2


def test_a_draft_called_unknown_needs_a_name_where_the_run_learns_names(run, images, tmp_path):
    (run / "rounds/000/query/request.json").unlink()
    draft = {"boxes": [[10, 10, 20, 20]], "classes": ["unknown"], "scores": [0.5]}
    export(run, images, predictions={key: draft for key in BATCH[:2]})
    assert "is for you to replace" in (run / "rounds/000/query/README.txt").read_text()
    text = refused(run, tmp_path, reviewed(run, tile0="done"))
    assert f"1 boxes in 1 tiles are unknown as in the draft: {BATCH[0]} (1)" in text and ", debris" in text
    content = reviewed(run, tile0="done", tile2="done")  # the draft of tile 1 waits, and does no harm
    content["annotations"][0]["category_id"] = 3
    assert import_batch(run, put(tmp_path, content)).boxes == {"debris": 1}


@pytest.mark.parametrize(
    "rename, what",
    [
        (lambda key: key.replace(".png", ".jpg"), "suffix"),
        (lambda key: key.split("/")[1].replace(".png", ".TIF"), "suffix"),
        (lambda key: key.replace("tile", "9f3c-tile"), "name"),
        (lambda key: key.replace(".png", " (1).png"), "name"),
    ],
)
def test_a_tile_with_another_suffix_or_name_is_recognised_but_not_taken(run, tmp_path, rename, what):
    content = foreign(run, rename)
    text = refused(run, tmp_path, content)
    assert f"3 images look like tiles of the batch with another {what}" in text and "remove" not in text
    assert f"{rename(BATCH[0])} like {BATCH[0]}" in text and "--accept-names" in text
    report = import_batch(run, put(tmp_path, content), accept=["names"])
    assert report.labelled == (BATCH[0],) and f"another {what}" in str(report)


def test_a_tile_of_another_place_looks_like_none(run, tmp_path):
    content = batch(run)
    for name in ("other/tile4.jpg", "slide1/tile42.png", "slide1/xtile4.png"):
        content["images"][0]["file_name"] = name
        assert f"1 images are not of this batch: {name}" in refused(run, tmp_path, content, accept=["names"])


def test_a_file_with_more_than_the_batch(run, tmp_path):
    """As from a project that holds all tiles ever sent out."""
    content = foreign(run)
    content["images"].append({"id": 1, "file_name": POOL[0], "width": 9, "height": 9})
    content["categories"].append({"id": 9, "name": "something else"})
    content["annotations"].append({"id": 50, "image_id": 1, "category_id": 9, "bbox": None})
    assert "--skip-other-tiles" in refused(run, tmp_path, content)
    report = import_batch(run, put(tmp_path, content), skip_other_tiles=True)
    assert report.labelled == (
        BATCH[0],
    ) and f"1 images are not of this batch and were skipped: {POOL[0]}" in str(report)
