"""A batch goes into a tool and comes back: the same boxes, classes and states, whatever the names of the tiles."""

import json
import zipfile
from dataclasses import replace

import answering
import pytest
from exporting import DRAFTS, KEYS
from waiting_run import files

from osal_detectron2.core.annotation_cost import AnnotationCost
from osal_detectron2.core.errors import DataError, OutputError
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.core.store import read_json
from osal_detectron2.exchange.registry import FORMATS, read_sheets, write_for_tool
from osal_detectron2.oracles.answers import Answers
from osal_detectron2.oracles.exchange import import_batch, open_request
from osal_detectron2.oracles.timed import timed_tiles

WITH_STATES = ("label-studio", "cvat", "geojson")
WITHOUT = ("yolo", "voc")
ANSWER = {name: getattr(answering, name.replace("-", "_")) for name in (*WITH_STATES, *WITHOUT)}


def exported(run, format):
    return write_for_tool(open_request(run)[2], run, format, run.parent / f"for {format}")


def answers(run):
    _, query, request = open_request(run)
    record = Answers.read(query, request.batch)
    return {key: record.label(key) for key in KEYS}


def near(labels, expected):
    assert list(labels.classes) == [name for name, _ in expected]
    for box, (_, wanted) in zip(labels.boxes, expected):
        assert box == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_the_folder_has_all_that_the_tool_needs(run, format):
    before = files(run)
    folder = exported(run, format)
    assert files(run) == before
    for key in KEYS:
        assert (folder / "images" / key).read_bytes() == key.encode()
    readme = (folder / "README.txt").read_text()
    assert "tumor, lymphocyte, debris, unknown" in readme and f"osal run import {run}" in readme
    with pytest.raises(OutputError, match="not empty"):
        exported(run, format)
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".osal-tmp")]


def test_tiles_that_are_not_on_this_computer(run):
    request = open_request(run)[2]
    (run.parent / "data" / KEYS[3]).unlink()
    with pytest.raises(DataError, match="plain.png is not on this computer; export with --no-images"):
        exported(run, "cvat")
    assert not (run.parent / "for cvat").exists()
    copied = run / "rounds/init/query/images" / KEYS[3]
    copied.parent.mkdir()
    copied.write_bytes(b"copied before")
    assert (exported(run, "cvat") / "images" / KEYS[3]).read_bytes() == b"copied before"
    folder = write_for_tool(request, run, "yolo", run.parent / "bare", copy_images=False)
    assert not (folder / "images").exists() and (folder / "labels/plain.txt").exists()


def test_two_tiles_of_one_name_need_a_format_that_tells_them_apart(run):
    request = open_request(run)[2]
    request = replace(request, tiles={**request.tiles, "plain.jpg": request.tiles["plain.png"]})
    for format in WITHOUT:
        with pytest.raises(DataError, match="tile plain.jpg: another tile has its name but for the suffix"):
            write_for_tool(request, run, format, run.parent / "two", copy_images=False)
    request = replace(request, tiles={"../x.png": request.tiles["plain.png"]})
    for format in set(FORMATS) - {"coco"}:
        with pytest.raises(DataError, match="leads out of the folder"):
            write_for_tool(request, run, format, run.parent / "two", copy_images=False)
    assert not (run.parent / "two").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_drafts_sent_back_as_they_were_are_no_labels(run, format):
    folder = exported(run, format)
    file = {
        "coco": "batch.json",
        "label-studio": "tasks.json",
        "cvat": "annotations.xml",
        "geojson": "geojson",
    }
    path = folder / file.get(format, "")
    report = import_batch(run, path)
    assert list(report.pending_keys) == KEYS and not report.labelled and "no tile is reviewed" in str(report)
    assert ('set "review"' in str(report)) == (format == "coco")
    if format != "label-studio":  # whose predictions are no annotations
        tiles = {page["file_name"] for page in read_sheets(path, open_request(run)[2])[0].as_coco()["images"]}
        assert tiles == set(KEYS)


@pytest.mark.parametrize("format", WITH_STATES)
def test_every_state_comes_back_from_a_tool_that_has_them(run, format):
    path = ANSWER[format](exported(run, format))
    report = import_batch(
        run, path.parent if format in ("geojson", "cvat") else path
    )  # or the folder around it
    assert report.labelled == (KEYS[0], KEYS[1]) and report.reviewed_empty == (KEYS[2],)
    assert report.rejected == (KEYS[3],) and report.pending_keys == (KEYS[4],)
    for key, expected in answering.BOXES.items():
        near(answers(run)[key], expected)


@pytest.mark.parametrize("format", WITHOUT)
def test_a_format_without_states_is_asked_about(run, format):
    path = ANSWER[format](exported(run, format))
    report = import_batch(run, path)
    assert report.labelled == (KEYS[0],) and report.pending_keys == tuple(KEYS[1:])
    near(answers(run)[KEYS[0]], answering.BOXES[KEYS[0]])
    with pytest.raises(DataError, match="have no box and would become labels"):
        import_batch(run, path, treat_empty_as="empty")
    opened = [KEYS[1], KEYS[2]]
    options = {"treat_empty_as": "empty", "opened": opened, "accept": ["unchanged"]}
    report = import_batch(run, path, **options)
    assert report.reviewed_empty == (KEYS[2],) and report.pending_keys == (KEYS[3], KEYS[4])
    near(answers(run)[KEYS[1]], answering.BOXES[KEYS[1]])


@pytest.mark.parametrize("format", ANSWER)
def test_an_archive_is_as_good_as_the_folder(run, format, tmp_path):
    path, archive = ANSWER[format](exported(run, format)), tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as pack:
        for member in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if member.is_file() and "images/" not in str(member.relative_to(path.parent)):
                pack.write(member, member.relative_to(path) if path.is_dir() else member.name)
    report = import_batch(run, archive, dry_run=True)
    assert str(report).split(":", 1)[1] == str(import_batch(run, path, dry_run=True)).split(":", 1)[1]
    assert KEYS[0] in report.labelled


@pytest.mark.parametrize("format", ANSWER)
def test_a_file_of_another_batch_is_refused(make, format):
    run, other = make(), make(name="other", slide=True)
    query = other / "rounds/init/query"
    request = read_json(query / "request.json")
    assert request["batch"] == open_request(run)[2].batch  # the same question; make it another
    (query / "request.json").write_text(json.dumps({**request, "batch": "0123456789abcdef"}))
    path, before = ANSWER[format](exported(other, format)), files(run)
    with pytest.raises(DataError, match="answers another batch"):
        import_batch(run, path)
    assert files(run) == before


def test_drafts_have_scores_and_the_order_in_label_studio(run):
    folder = exported(run, "label-studio")
    tasks = json.loads((folder / "tasks.json").read_text())
    assert [task["data"]["osal_key"] for task in tasks] == KEYS
    assert tasks[0]["data"]["score_pcss"] == 1.5 and tasks[2]["data"]["rank"] == 3
    first = tasks[0]["predictions"][0]["result"]
    assert [region["score"] for region in first] == [draft[2] for draft in DRAFTS[KEYS[0]]]
    assert "日" not in tasks[2]["data"]["image"] and tasks[2]["data"]["image"].startswith(
        "/data/local-files/?d=for%20"
    )
    config = (folder / "labels.xml").read_text()
    assert '<Label value="unknown"' in config and 'canRotate="false"' in config


def test_several_people_of_one_label_studio_file(run):
    path = answering.label_studio(exported(run, "label-studio"))
    tasks = json.loads(path.read_text())
    second = json.loads(json.dumps(tasks[0]["annotations"][0]))
    second["completed_by"], second["lead_time"] = {"id": 2, "email": "ben@lab"}, 99.0
    second["result"].pop()
    tasks[0]["annotations"].append(second)
    skipped = {"completed_by": 1, "was_cancelled": True, "lead_time": 3, "result": []}
    tasks[4]["annotations"] = [skipped]
    tasks[1]["data"] = {
        "image": "/data/local-files/?d=elsewhere/slide%202/tile.png"
    }  # a project without our keys
    path.write_text(json.dumps(tasks))
    with pytest.raises(Exception, match="--map-annotator"):
        import_batch(run, path, annotator="anna")
    report = import_batch(run, path, map_annotator={"user 1": "anna"})
    assert report.annotator == "anna and ben@lab" and "1 tiles were skipped and stay pending" in str(report)
    assert "anna and ben@lab: 1 nuclei the same, 1 only anna's" in report.disputes[KEYS[0]]
    events = read_json(run / "rounds/init/query/imported.json")["events"]
    assert {e["annotator"]: e["seconds"] for e in events if e["tile"] == KEYS[0]} == {
        "anna": 12.5,
        "ben@lab": 99.0,
    }
    _, query, request = open_request(run)
    record = Answers.read(query, request.batch)
    assert [e.seconds for key in KEYS[1:3] for e in record.events if e.tile == key] == [13.5, 14.5]
    report = import_batch(
        run, path, map_annotator={"user 1": "anna"}, treat_skipped_as="rejected", prefer="anna"
    )
    assert KEYS[4] in report.rejected and report.complete
    # Two people were paid for the first tile; what a tile took stands with its labels, and by annotator for the fit.
    labels = LabelFile.read(run / "rounds/init/labels.json").tiles
    assert labels[KEYS[0]].seconds == 12.5 + 99 and labels[KEYS[1]].seconds == 13.5
    assert AnnotationCost().of(labels[KEYS[0]]) == 111.5
    drafts = len(DRAFTS[KEYS[0]])
    timed = timed_tiles(run)
    assert [t.seconds for t in timed if t.annotator == "anna"][:3] == [12.5, 13.5, 14.5]
    (ben,) = [t for t in timed if t.annotator == "ben@lab"]
    assert ben.work.confirmed + ben.work.corrected == drafts and ben.seconds == 99


def test_a_rotated_box_and_a_prediction_that_nobody_opened(run):
    path = answering.label_studio(exported(run, "label-studio"))
    tasks = json.loads(path.read_text())
    tasks[1]["annotations"][0] |= {"lead_time": None, "parent_prediction": 5}
    path.write_text(json.dumps(tasks))
    report = import_batch(run, path)
    assert KEYS[1] in report.pending_keys and "nobody opened" in str(report)
    tasks[0]["annotations"][0]["result"][0]["value"]["rotation"] = 30
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="task 70, region draft0: is rotated"):
        import_batch(run, path)


def test_tiles_of_a_slide_are_one_file_in_its_pixels(make):
    run = make(slide=True)
    folder = exported(run, "geojson")
    path = folder / "geojson/slides/A 1.svs.geojson"
    features = json.loads(path.read_text())["features"]
    assert [f["properties"].get("name") for f in features] == [KEYS[0], None, None, KEYS[1], None]
    assert features[0]["geometry"]["coordinates"][0][:3:2] == [[4000, 600], [4194, 746]]
    assert features[1]["geometry"]["coordinates"][0][0] == [4020.5, 641.0]
    report = import_batch(run, answering.geojson(folder))
    assert report.labelled == (KEYS[0], KEYS[1]) and report.reviewed_empty == (KEYS[2],)
    for key, expected in answering.BOXES.items():
        near(answers(run)[key], expected)
    content = json.loads(
        path.read_text()
    )  # the frames were deleted, and one nucleus lies outside of the batch
    far = {"type": "Polygon", "coordinates": [[[9, 9], [19, 9], [14, 30], [9, 9]]]}
    content["features"] = [f for f in content["features"] if "name" not in f["properties"]]
    content["features"].append(
        {"type": "Feature", "geometry": far, "properties": {"classification": {"name": "tumor"}}}
    )
    path.write_text(json.dumps(content))
    report = import_batch(run, path, accept=["unchanged"], dry_run=True)
    assert report.labelled == (KEYS[0], KEYS[1]) and "1 objects lie in no tile" in str(report)


def test_outlines_of_qupath_become_boxes_and_a_moved_frame_is_noticed(make):
    run = make(slide=True)
    path = exported(run, "geojson") / "geojson/slides/A 1.svs.geojson"
    content = json.loads(path.read_text())
    outline = {"type": "Polygon", "coordinates": [[[4010, 620], [4040, 630], [4020, 660], [4010, 620]]]}
    cell = {"objectType": "cell", "classification": {"names": ["tumor"]}}
    content["features"][1] = {
        "type": "Feature",
        "geometry": outline,
        "nucleusGeometry": outline,
        "properties": cell,
    }
    path.write_text(json.dumps(content))
    import_batch(run, path, map_class={"unknown": "debris"})
    near(answers(run)[KEYS[0]], [("tumor", (5, 10, 15, 20)), ("debris", (50, 60, 9, 11.5))])
    for point in content["features"][0]["geometry"]["coordinates"][0]:
        point[0] += 40
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="the frame of tile slide 1/tile.png was moved"):
        import_batch(run, path)


@pytest.mark.parametrize("labels", ["obj_train_data", "obj_Validation_data", "labels/train", "labels"])
def test_the_layouts_of_yolo(run, tmp_path, labels):
    """Those of CVAT, datumaro and Ultralytics, with their lists of images beside the labels."""
    folder = tmp_path / "theirs"
    label = folder / labels / "slide 2/tile.txt"
    label.parent.mkdir(parents=True)
    label.write_text("1 .5 .5 .2 .2 .9\n2 .1 .1 .3 .1 .3 .4\n")
    (folder / "Validation.txt").write_text(f"data/{labels}/slide 2/tile.png\n")
    if labels.startswith("obj"):
        (folder / "obj.names").write_text("tumor\nlymphocyte\ndebris\n")
    else:
        (folder / "data.yaml").write_text(
            "names: {0: tumor, 1: lymphocyte, 2: debris}\ntrain: Validation.txt\n"
        )
    import_batch(run, folder)
    boxes = [("lymphocyte", (38.8, 21.2, 19.4, 10.6)), ("debris", (9.7, 5.3, 19.4, 15.9))]
    near(answers(run)[KEYS[1]], boxes)


def test_a_tile_is_never_guessed_from_its_stem(run):
    """ "tile.txt" may be of two slides; "3f9a-plain" only looks like plain.png."""
    folder = answering.yolo(exported(run, "yolo"))
    (folder / "labels/tile.txt").write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(DataError, match="images are not of this batch: tile.txt"):
        import_batch(run, folder)
    (folder / "labels/tile.txt").rename(folder / "labels/3f9a-plain.txt")
    with pytest.raises(DataError, match="look like tiles of the batch .*--accept-names"):
        import_batch(run, folder)
