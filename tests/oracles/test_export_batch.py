import json

import pytest
from waiting_run import BATCH, CLASSES, POOL, batch, export, files, put, reviewed

from osal_detectron2.core.errors import DataError, LedgerError
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.oracles.exchange import import_batch
from osal_detectron2.oracles.progress import batch_status


def test_the_batch_tells_people_everything(run, images):
    content = batch(run)
    assert [i["file_name"] for i in content["images"]] == BATCH
    assert content["images"][0] == {
        "id": 1,
        "file_name": BATCH[0],
        "width": 100,
        "height": 100,
        "rank": 1,
        "scores": {"pcss": 2.0, "utss": None},
        "reason": "2 known nuclei",
        "review": "pending",
    }
    assert [c["name"] for c in content["categories"]] == CLASSES
    cut = content["annotations"][1]
    assert cut["bbox"] == [90.0, 90.0, 10.0, 10.0] and cut["area"] == 100.0 and cut["score"] == 0.5
    query = run / "rounds/000/query"
    assert (query / "images.txt").read_text().splitlines() == [images[key]["file_name"] for key in BATCH]
    readme = (query / "README.txt").read_text()
    assert f"osal run import {run}" in readme and "tumor, lymphocyte, debris" in readme
    # 3 tiles at 15 s and 12 expected nuclei, not 3 drafts, at 3 s are 81 s
    assert "3 tiles, about 12 nuclei, 2 minutes of annotation" in readme
    assert batch_status(run).cost.hours == pytest.approx(81 / 3600)
    assert batch_status(run).pending_keys == BATCH


def test_images_are_copied_on_request_so_that_an_edit_spares_the_data_set(run, images):
    (run / "rounds/000/query/request.json").unlink()
    export(run, images, copy_images=True)
    copy = run / "rounds/000/query/images" / BATCH[0]
    assert copy.read_bytes() == BATCH[0].encode()
    copy.write_bytes(b"edited")
    listed = (run / "rounds/000/query/images.txt").read_text().splitlines()
    assert listed == [f"images/{key}" for key in BATCH]
    export(run, images, copy_images=True)
    assert copy.read_bytes() == b"edited", "put again, the question leaves people's files alone"
    assert open(images[BATCH[0]]["file_name"], "rb").read() == BATCH[0].encode()
    outside = {**images, "../up.png": images[BATCH[0]]}
    with pytest.raises(DataError, match="leads out"):
        export(run, outside, keys=["../up.png"], round_index=1, copy_images=True)


def test_a_second_export_leaves_a_batch_that_is_being_edited_alone(run, images):
    content = reviewed(run, tile0="done")
    put(run / "rounds/000/query", content, "batch.json")
    export(run, images)
    assert batch(run) == content


def test_answers_to_another_question_are_not_buried(run, images, tmp_path):
    import_batch(run, put(tmp_path, reviewed(run, tile0="done")))
    before = files(run)
    with pytest.raises(LedgerError, match=r"imported\.json"):
        export(run, images, keys=[POOL[5]])
    assert files(run) == before


def test_a_question_without_any_label_yet_says_so_instead_of_no_time_at_all(run, images, tmp_path):
    (run / "rounds/000/query/request.json").unlink()
    export(run, images, nuclei={})
    assert "3 tiles, 1 minute of annotation and 3 s for each nucleus" in str(batch_status(run).left)
    import_batch(run, put(tmp_path, reviewed(run, tile0="done")))
    # Two nuclei in the tile that is in: two tiles are left at 15 s and four nuclei at 3 s.
    assert str(batch_status(run).left) == "2 tiles, about 4 nuclei, 1 minute of annotation"
    assert batch_status(run).left.hours == pytest.approx(42 / 3600)


def test_a_batch_of_an_older_version_can_be_answered(run, tmp_path):
    query = run / "rounds/000/query"
    request = json.loads((query / "request.json").read_text())
    tiles = [{n: v for n, v in tile.items() if n != "nuclei"} for tile in request["tiles"]]
    old = {n: request[n] for n in ("batch", "round", "classes")}
    put(query, {**old, "schema": "osal-request/1", "hours": 0.5, "tiles": tiles}, "request.json")
    answer = {"state": "rejected", "boxes": [], "classes": [], "annotator": "anna"}
    before = {
        "schema": "osal-imported/1",
        "tiles": {BATCH[1]: answer},
        **{n: old[n] for n in ("batch", "classes")},
    }
    put(query, before, "imported.json")
    assert str(batch_status(run).cost) == "3 tiles, 30 minutes of annotation"
    assert batch_status(run).states[BATCH[1]] == "rejected"
    report = import_batch(run, put(tmp_path, reviewed(run, tile0="done", tile2="done")))
    assert report.complete
    assert LabelFile.read(run / "rounds/000/labels.json").tiles[BATCH[1]].annotator == "anna"


def test_an_unknown_class_in_a_prediction(run, images):
    bad = {BATCH[0]: {"boxes": [[0, 0, 5, 5]], "classes": ["dust"], "scores": [1.0]}}
    with pytest.raises(DataError, match="dust"):
        export(run, images, round_index=1, predictions=bad)


def test_a_folder_that_is_not_the_run_gets_no_batch(run, images):
    before = files(run)
    with pytest.raises(LedgerError, match="no run.json"):
        export(run / "rounds/000", images)
    assert files(run) == before
