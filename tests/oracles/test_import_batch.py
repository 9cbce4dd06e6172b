import copy
import json

import numpy as np
import pytest
from waiting_run import BATCH, CLASSES, POOL, batch, export, files, foreign, put, reviewed

from osal_detectron2.core.errors import DataError, LedgerError
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.oracles.exchange import import_batch
from osal_detectron2.oracles.progress import batch_status


def test_a_batch_sent_back_unchanged_is_no_review(run, tmp_path):
    report = import_batch(run, run / "rounds/000/query/batch.json")
    assert report.labelled == report.reviewed_empty == () and list(report.pending_keys) == BATCH
    assert "no tile is reviewed" in str(report)
    content = batch(run)
    for image in content["images"]:
        del image[
            "review"
        ]  # through another tool, still untouched: the drafts are the model's, not a person's
    report = import_batch(run, put(tmp_path, content))
    assert report.labelled == () and "--accept-unchanged" in str(report)
    report = import_batch(run, put(tmp_path, content), accept=["unchanged"])
    assert set(report.labelled) == set(BATCH[:2]) and report.pending_keys == (BATCH[2],)


def test_all_three_answers_complete_the_batch_and_the_round_commits(run, tmp_path):
    report = import_batch(run, put(tmp_path, reviewed(run, tile0="done", tile1="rejected", tile2="done")))
    assert report.complete and "all tiles" in str(report)
    assert (report.labelled, report.rejected, report.reviewed_empty) == (
        (BATCH[0],),
        (BATCH[1],),
        (BATCH[2],),
    )
    assert report.boxes == {"tumor": 1, "lymphocyte": 1}
    path = run / "rounds/000/labels.json"
    labels = LabelFile.read(path)
    assert labels.classes == tuple(CLASSES)
    assert labels.tiles[BATCH[0]].boxes == ((10.0, 10.0, 20.0, 20.0), (90.0, 90.0, 10.0, 10.0))
    assert labels.tiles[BATCH[0]].annotator == "human" and labels.tiles[BATCH[1]].boxes == ()
    before, ledger = path.read_bytes(), Ledger.open(run)
    ledger.commit(0, selected=BATCH, labels=labels.tiles)
    assert path.read_bytes() == before and ledger.labelled_keys() == [POOL[0], BATCH[0], BATCH[2]]
    before = files(run)
    with pytest.raises(LedgerError, match="round 0 is committed"):
        import_batch(run, tmp_path / "returned.json")
    assert files(run) == before


def test_partial_imports_add_up_and_a_later_one_corrects(run, tmp_path):
    first = import_batch(run, put(tmp_path, reviewed(run, tile0="done")), annotator="anna")
    assert first.pending_keys == (BATCH[1], BATCH[2]) and not (run / "rounds/000/labels.json").exists()
    assert batch_status(run).states == {BATCH[0]: "labelled", BATCH[1]: "pending", BATCH[2]: "pending"}
    second = import_batch(run, put(tmp_path, reviewed(run, tile1="rejected", tile2="empty")))
    assert second.complete and second.changed == ()
    tiles = LabelFile.read(run / "rounds/000/labels.json").tiles
    assert tiles[BATCH[0]].annotator == "anna" and tiles[BATCH[2]].state == "reviewed_empty"
    third = import_batch(run, put(tmp_path, reviewed(run, tile1="done")))
    assert third.changed == (BATCH[1],) and third.complete
    assert LabelFile.read(run / "rounds/000/labels.json").tiles[BATCH[1]].state == "labelled"


def test_a_dry_run_reports_the_same_and_writes_nothing(run, tmp_path):
    path, before = put(tmp_path, reviewed(run, tile0="done")), files(run)
    dry = import_batch(run, path, dry_run=True)
    assert files(run) == before and "would import 1 labelled" in str(dry)
    assert import_batch(run, path).labelled == dry.labelled


def test_a_file_of_another_tool(run, tmp_path):
    report = import_batch(run, put(tmp_path, foreign(run)), accept=["unchanged"])
    assert set(report.labelled) == set(BATCH[:2]) and report.pending_keys == (BATCH[2],)
    report = import_batch(run, put(tmp_path, foreign(run)), treat_empty_as="empty", opened="all")
    assert report.labelled == (BATCH[0],) and report.reviewed_empty == (BATCH[2],) and report.complete
    tiles = LabelFile.read(run / "rounds/000/labels.json").tiles
    assert tiles[BATCH[0]].boxes[0] == (13.0, 10.0, 20.0, 20.0)
    assert tiles[BATCH[0]].classes == ("tumor", "lymphocyte")


@pytest.mark.parametrize(
    "names",
    [lambda k: k.split("/")[1], lambda k: f"images/{k}", lambda k: "D:\\lab\\" + k.replace("/", "\\")],
)
def test_names_without_or_with_more_folders_match_and_it_is_said(run, tmp_path, names):
    report = import_batch(run, put(tmp_path, foreign(run, names)))
    assert report.labelled == (BATCH[0],) and "last parts of their path" in str(report)


def test_a_tile_of_the_same_name_in_another_slide_is_not_confused(tmp_path, images):
    """slide0/1.png and slide1/1.png: a bare 1.png could be either; the pool's own name is never bent."""
    pool = ["1.png", "slide0/1.png", "slide1/1.png", "x.png"]
    records = {key: {"file_name": key, "width": 100, "height": 100} for key in pool}
    folder = tmp_path / "two"
    common = {"strategy": "random", "seed": 0, "known_classes": [], "config": {}, "dataset_sha256": ""}
    Ledger.create(folder, pool=pool, plan=[2], versions={}, **common)
    export(folder, records, keys=pool[1:3], round_index="init")
    content = json.loads((folder / "rounds/init/query/batch.json").read_text())
    content["images"][0]["file_name"] = "lab/1.png"
    with pytest.raises(DataError, match=r"not of this batch: lab/1\.png"):
        import_batch(folder, put(tmp_path, content))
    content["images"][0]["file_name"] = "1.png"
    with pytest.raises(DataError, match=r"not of this batch: 1\.png"):
        import_batch(folder, put(tmp_path, content))
    Ledger.create(tmp_path / "bare", pool=pool[1:], plan=[2], versions={}, **common)
    export(tmp_path / "bare", records, keys=pool[1:3], round_index="init")
    content["info"] = {}
    with pytest.raises(DataError, match=r"1\.png: may be slide0/1\.png or slide1/1\.png"):
        import_batch(tmp_path / "bare", put(tmp_path, content))


def test_missing_tiles_become_what_was_said_but_earlier_answers_stay(run, tmp_path):
    content = reviewed(run, tile0="done")
    import_batch(run, put(tmp_path, content))
    content = reviewed(run, tile1="rejected")
    content["images"] = content["images"][1:2]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 2]
    assert import_batch(run, put(tmp_path, content), dry_run=True).pending_keys == (BATCH[2],)
    report = import_batch(run, put(tmp_path, content), treat_missing_as="empty")
    assert report.reviewed_empty == (BATCH[2],) and report.complete
    assert batch_status(run).states[BATCH[0]] == "labelled"


def test_an_edited_tile_that_is_still_pending_is_pointed_out(run, tmp_path):
    content = reviewed(run, tile1="done")
    content["annotations"][0]["bbox"][2] = 30
    report = import_batch(run, put(tmp_path, content))
    assert f"{BATCH[0]}: was edited" in str(report) and BATCH[1] not in str(report.notes)


def test_classes_are_mapped_only_by_order(run, tmp_path):
    content = foreign(run)
    content["categories"][0]["name"] = "Tumor"
    with pytest.raises(DataError, match="--map-class 'Tumor=tumor'"):
        import_batch(run, put(tmp_path, content))
    report = import_batch(run, put(tmp_path, content), map_class={"Tumor": "debris"})
    assert report.boxes == {"lymphocyte": 1, "debris": 2}
    with pytest.raises(DataError, match="this run has the classes"):
        import_batch(run, put(tmp_path, content), map_class={"Tumor": "tumour"})
    content["categories"][2]["name"] = "never used"  # harmless: no annotation has it
    import_batch(run, put(tmp_path, content), map_class={"Tumor": "debris"})


def test_small_overhang_is_cut_and_a_large_one_is_said(run, tmp_path):
    content = reviewed(run, tile0="done")
    content["annotations"][0]["bbox"] = [-0.5, 0, 10, 10]
    content["annotations"][1]["bbox"] = [95, 95, 50, 2]
    report = import_batch(run, put(tmp_path, content))
    assert len(report.notes) == 1 and "annotation 2" in report.notes[0]
    imported = json.loads((run / "rounds/000/query/imported.json").read_text())
    assert imported["events"][0]["boxes"] == [[0, 0, 9.5, 10], [95, 95, 5, 2]]


def _edit(part, index, **values):
    return lambda content: content[part][index].update(values)


@pytest.mark.parametrize(
    "edit, words",
    [
        (_edit("images", 0, file_name="slide2/tile8.png"), "not of this batch: slide2/tile8.png"),
        (_edit("images", 1, file_name=BATCH[0]), f"tile {BATCH[0]} occurs twice"),
        (_edit("images", 1, id=1), "image id 1 occurs twice"),
        (_edit("images", 0, width=200), "200 x 100 pixels, the tile is 100 x 100"),
        (_edit("images", 0, review="finished"), "'finished'"),
        (_edit("images", 0, review="empty"), "2 annotations"),
        (_edit("images", 0, file_name=None), "file_name"),
        (_edit("images", 0, id=None), "id"),
        (_edit("annotations", 2, bbox=[0, 0, 0, 5]), "annotation 3"),
        (_edit("annotations", 2, bbox=[0, 0, -1, 5]), "annotation 3"),
        (_edit("annotations", 2, bbox=[0, 0, float("nan"), 5]), "annotation 3"),
        (_edit("annotations", 2, bbox=[0, 0, 5]), "annotation 3"),
        (_edit("annotations", 2, bbox=["0", 0, 5, 5]), "annotation 3"),
        (_edit("annotations", 2, bbox=None), "annotation 3"),
        (_edit("annotations", 2, bbox=[200, 0, 5, 5]), "outside the tile"),
        (_edit("annotations", 2, iscrowd=1), "crowd"),
        (_edit("annotations", 2, bbox=None, segmentation={"counts": "a", "size": [9, 9]}), "mask (RLE)"),
        (_edit("annotations", 2, bbox=[], segmentation=[[1, 2, "3"]]), "no list of polygons"),
        (_edit("annotations", 2, image_id=77), "image_id 77"),
        (_edit("annotations", 2, image_id=[1]), "annotation 3"),
        (_edit("annotations", 2, category_id=77), "category_id 77"),
        (_edit("annotations", 2, category_id=None), "annotation 3"),
        (_edit("categories", 0, name="dust"), "class 'dust' (2 annotations)"),
        (_edit("categories", 1, id=1), "category id 1 occurs twice"),
        (lambda c: c.pop("categories"), "categories"),
        (lambda c: c["images"].append(3), "objects"),
        (lambda c: c["info"].update(osal_batch="0" * 16, osal_round=9), "answers another batch (round 9"),
    ],
)
def test_every_fault_is_refused_and_nothing_is_written(run, tmp_path, edit, words):
    content = reviewed(run, tile1="done", tile2="done")
    edit(content)
    path, before = put(tmp_path, content), files(run)
    with pytest.raises(DataError) as error:
        import_batch(run, path)
    assert str(path) in str(error.value) and words in str(error.value)
    assert files(run) == before


def test_a_polygon_without_a_box_has_the_box_around_it(run, tmp_path):
    content = reviewed(run, tile0="done")
    content["annotations"][0].update(bbox=None, segmentation=[[4, 5, 10, 5, 7, 9.5], [8, 9, 12, 9, 12, 10]])
    import_batch(run, put(tmp_path, content))
    imported = json.loads((run / "rounds/000/query/imported.json").read_text())
    assert imported["events"][0]["boxes"][0] == [4, 5, 8, 5]


def test_all_faults_are_listed_at_once(run, tmp_path):
    content = reviewed(run, tile0="done")
    content["annotations"] = [{**content["annotations"][0], "id": n, "bbox": None} for n in range(30)]
    content["images"][1]["review"] = "?"
    with pytest.raises(DataError) as error:
        import_batch(run, put(tmp_path, content))
    text = str(error.value)
    assert "31 problem(s)" in text and "annotation 19" in text and "and 11 more" in text


def test_no_batch_is_waiting(run, tmp_path):
    import_batch(run, put(tmp_path, reviewed(run, tile0="done", tile1="done", tile2="done")))
    labels = LabelFile.read(run / "rounds/000/labels.json").tiles
    Ledger.open(run).commit(0, selected=BATCH, labels=labels)
    assert batch_status(run) is None
    with pytest.raises(LedgerError, match="no batch is waiting"):
        import_batch(run, tmp_path / "returned.json")


def test_a_kill_between_the_two_files_of_the_last_import_is_mended(run, images, tmp_path):
    import_batch(run, put(tmp_path, reviewed(run, tile0="done", tile1="done", tile2="done")))
    path = run / "rounds/000/labels.json"
    before = path.read_bytes()
    path.unlink()
    assert export(run, images).complete  # what the engine does on --resume
    assert path.read_bytes() == before


def test_random_damage_never_gets_past_as_another_error(run, tmp_path):
    """Any value of the file replaced by any JSON value: refused with a message, or a sound import."""
    rng = np.random.default_rng(0)
    junk = [None, True, -1, 1e400, "", "x", [], [1], {}, {"id": 1}, float("nan")]
    whole, before, refused = reviewed(run, tile0="done", tile1="done", tile2="done"), files(run), 0
    for _ in range(400):
        content = copy.deepcopy(whole)
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[rng.integers(len(keys))]
            if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.15:
                break
            node = node[key]
        node[key] = junk[rng.integers(len(junk))]
        try:
            import_batch(run, put(tmp_path, content), dry_run=True)
        except DataError:
            refused += 1
    assert 100 < refused < 400 and files(run) == before
