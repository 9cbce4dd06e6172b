"""`osal predict` on a real run: what it writes agrees with the detector, and bad input is one clear line."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from programs import osal

from osal_detectron2.core.errors import DataError
from osal_detectron2.deploy.detect import detect
from osal_detectron2.deploy.geojson import feature_collection
from osal_detectron2.deploy.images import records_of_folder
from osal_detectron2.deploy.load import load_detector
from osal_detectron2.deploy.predict import output_names


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run_tool(*words):
    return osal("predict", *words)


@pytest.fixture(scope="module")
def folder_of_images(nuclei, tmp_path_factory):
    """Four tiles, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "slide").mkdir()
    for i, path in enumerate(sorted((nuclei / "rgb").glob("*.png"))[:4]):
        shutil.copy(path, folder / ("slide" if i == 3 else "") / f"tile{i}.png")
    return folder


@pytest.fixture(scope="module")
def predicted(real_run, folder_of_images, tmp_path_factory):
    before = files(real_run)
    out = tmp_path_factory.mktemp("out") / "predictions"
    words = (real_run, "--images", folder_of_images, "--out", out, "--score-thresh", "0.1")
    assert run_tool(*words) == 0
    first = files(out)
    assert run_tool(*words) == 0
    assert files(out) == first and files(real_run) == before
    return out


def test_the_detections_are_those_of_the_model(predicted, real_run, folder_of_images):
    detector = load_detector(real_run)
    found = json.loads((predicted / "detections.json").read_text())
    images = json.loads((predicted / "images.json").read_text())
    assert [i["file_name"] for i in images["images"]] == [
        "slide/tile3.png",
        "tile0.png",
        "tile1.png",
        "tile2.png",
    ]
    for image in images["images"]:
        array = np.asarray(Image.open(folder_of_images / image["file_name"]).convert("RGB"))
        tensor = torch.as_tensor(array.copy()).permute(2, 0, 1)
        with torch.no_grad():
            (output,) = detector.model([{"image": tensor, "height": array.shape[0], "width": array.shape[1]}])
        expected = output["instances"]
        expected = expected[expected.scores >= 0.1]
        rows = [row for row in found if row["image_id"] == image["id"]]
        assert len(rows) == len(expected) > 0
        boxes = np.array([row["bbox"] for row in rows])
        boxes[:, 2:] += boxes[:, :2]
        assert boxes == pytest.approx(expected.pred_boxes.tensor.numpy(), abs=0.01)
        for key in ("cls_uncertainty", "loc_tightness"):
            assert [row[key] for row in rows] == pytest.approx(expected.get(key).numpy(), abs=1e-4)
        assert [row["category_id"] - 1 for row in rows] == expected.pred_classes.tolist()
        assert all(row["looks_unknown"] in (True, False, None) for row in rows)


def test_the_summary_says_so_where_everything_looks_alike(real_run, folder_of_images, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(real_run, run)
    for name in run.glob("*.pth"):  # a known prototype out of reach
        state = torch.load(name, weights_only=True)
        for key, value in state.get("model", {}).items():
            if key.endswith("prototypes"):
                value[0] += 1000
        torch.save(state, name)
    words = ("--images", folder_of_images, "--score-thresh", "0.0", "--formats", "coco")
    assert run_tool(run, *words, "--out", tmp_path / "a") == 0
    summary, warning = capsys.readouterr().out.strip().splitlines()
    assert summary.endswith(" look unknown") and re.match(r"warning: 0 of \d+ detections look known", warning)
    assert "labelled nuclei are" in warning and "OSAL.PROTOTYPE.BALANCED True" in warning
    assert run_tool(run, *words, "--out", tmp_path / "b", "--unknown-rule", "label") == 0
    assert "warning" not in capsys.readouterr().out, "the rule has no use for prototypes"


def test_pycocotools_takes_the_results(predicted):
    from pycocotools.coco import COCO

    truth = COCO(str(predicted / "images.json"))
    assert len(truth.loadRes(str(predicted / "detections.json")).anns) > 0


def test_geojson_and_overlay_of_each_image(predicted, folder_of_images):
    detections = json.loads((predicted / "detections.json").read_text())
    collection = json.loads((predicted / "geojson" / "slide" / "tile3.geojson").read_text())
    assert len(collection["features"]) == sum(d["image_id"] == 1 for d in detections)
    assert not (predicted / "geojson_parents").exists()
    with (
        Image.open(folder_of_images / "tile0.png") as image,
        Image.open(predicted / "overlays/tile0.png") as drawn,
    ):
        assert drawn.width == image.width and drawn.height > image.height
        part = np.asarray(drawn.crop((0, 0, *image.size)))
        assert (part != np.asarray(image.convert("RGB"))).any()


def test_a_feature_by_hand():
    table = {
        "boxes": np.array([[1, 2, 5, 8.126]]),
        "scores": np.array([0.5]),
        "classes": np.array([1]),
        "cls_uncertainty": np.array([0.25]),
        "looks_unknown": np.array([np.nan]),
    }
    (feature,) = feature_collection(table, ["tumor", "stromal"])["features"]
    assert feature["geometry"]["coordinates"] == [[[1, 2], [5, 2], [5, 8.13], [1, 8.13], [1, 2]]]
    assert feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["classification"]["name"] == "stromal"
    assert feature["properties"]["measurements"] == {"score": 0.5, "cls_uncertainty": 0.25}


def test_settings_of_queries_that_another_version_had_do_not_stop_a_detector(stock_runs, tmp_path):
    shutil.copytree(stock_runs["osal_fpn"], tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["OSAL"]["PLUS"]["GONE"] = 1
    path.write_text(yaml.safe_dump(config))
    assert load_detector(tmp_path / "run").classes == load_detector(stock_runs["osal_fpn"]).classes
    config["OSAL"]["PROTOTYPE"]["GONE"] = 1
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="OSAL.PROTOTYPE.GONE"):
        load_detector(tmp_path / "run")


def test_tiles_of_a_coco_file_go_back_to_their_parent(real_run, tmp_path):
    rng = np.random.default_rng(0)
    parent = rng.integers(100, 255, size=(96, 160, 3), dtype=np.uint8)
    images = []
    for i, x in enumerate((0, 64)):
        Image.fromarray(parent[:, x : x + 96]).save(tmp_path / f"t{i}.png")
        origin = {"parent": "p.tif", "x": x, "y": 0, "width": 96, "height": 96}
        images.append({"id": 10 + i, "file_name": f"t{i}.png", "width": 96, "height": 96, "origin": origin})
    categories = [{"id": 7, "name": "stromal"}, {"id": 3, "name": "ambiguous"}]
    content = {"images": images, "annotations": [], "categories": categories}
    (tmp_path / "tiles.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    words = (real_run, "--json", tmp_path / "tiles.json", "--image-root", tmp_path, "--out", out)
    assert run_tool(*words, "--score-thresh", 0, "--formats", "coco,geojson") == 0
    written = json.loads((out / "images.json").read_text())
    # The file's own id for its class; those that it lacks come after its largest.
    assert {c["name"]: c["id"] for c in written["categories"]} == {"stromal": 7, "tumor": 8, "lymphocyte": 9}
    assert {d["image_id"] for d in json.loads((out / "detections.json").read_text())} == {10, 11}
    tiles = [json.loads((out / f"geojson/t{i}.geojson").read_text())["features"] for i in (0, 1)]
    whole = json.loads((out / "geojson_parents/p.geojson").read_text())["features"]
    right = {tuple(np.add(f["geometry"]["coordinates"][0][0], (64, 0)).round(2)) for f in tiles[1]}
    left = {tuple(f["geometry"]["coordinates"][0][0]) for f in tiles[0]}
    corners = {tuple(f["geometry"]["coordinates"][0][0]) for f in whole}
    assert corners <= left | right and corners & left and corners & right
    assert len(whole) < len(tiles[0]) + len(tiles[1])  # what both saw is there once
    assert not (out / "overlays").exists()


def test_batches_do_not_change_what_is_found(real_run, folder_of_images):
    detector, records = load_detector(real_run), records_of_folder(folder_of_images)
    one, four = (detect(detector, records, score_thresh=0.1, rule="proto", batch_size=n) for n in (1, 4))
    for a, b in zip(one, four):
        assert a["boxes"] == pytest.approx(b["boxes"], abs=1e-3)
        assert a["looks_unknown"] == pytest.approx(b["looks_unknown"], nan_ok=True)


def test_names_of_files_do_not_collide():
    assert output_names(["a/x.png", "a/x.jpg", "b/x.png", "A/Y.tif"]) == {
        "a/x.png": "a/x.png",
        "a/x.jpg": "a/x.jpg",
        "b/x.png": "b/x",
        "A/Y.tif": "A/Y",
    }


def test_a_checkpoint_of_a_run_is_a_detector_too(real_run):
    chosen = load_detector(real_run / "model_0000002.pth")
    assert chosen.weights.name == "model_0000002.pth" and chosen.classes == load_detector(real_run).classes
    parameters = zip(chosen.model.parameters(), load_detector(real_run).model.parameters())
    assert any((a != b).any() for a, b in parameters)


def broken_image(folder, run):
    (folder / "images").mkdir()
    (folder / "images/a.png").write_bytes(b"no picture")
    return [run, "--images", folder / "images"], "a.png: the image cannot be read"


def no_image(folder, run):
    (folder / "images").mkdir()
    return [run, "--images", folder / "images"], "holds no image"


def missing_image(folder, run):
    image = {"id": 1, "file_name": "gone.png", "width": 9, "height": 9}
    (folder / "x.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    return [run, "--json", folder / "x.json", "--image-root", folder], "gone.png: no such image"


def bad_origin(folder, run):
    image = {
        "id": 1,
        "file_name": "a.png",
        "width": 9,
        "height": 9,
        "origin": {"parent": "../p", "x": 0, "y": 0},
    }
    (folder / "x.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    return [run, "--json", folder / "x.json", "--image-root", folder], "leaves the folder"


def no_run(folder, run):
    return [folder / "nowhere", "--images", folder], "nowhere: no such file or folder"


def no_config(folder, run):
    shutil.copy(run / "model_final.pth", folder / "alone.pth")
    return [folder / "alone.pth", "--images", folder], "config.yaml: no such file"


def other_weights(folder, run):
    shutil.copy(run / "config.yaml", folder / "config.yaml")
    torch.save({"model": {}}, folder / "model_final.pth")
    return [folder, "--images", folder], "lacks"


def damaged_weights(folder, run):
    shutil.copy(run / "config.yaml", folder / "config.yaml")
    (folder / "model_final.pth").write_bytes((run / "model_final.pth").read_bytes()[:5000])
    return [folder, "--images", folder], "is no checkpoint"


def bad_format(folder, run):
    return [run, "--images", folder, "--formats", "coco,xml"], "choose some of coco,geojson,overlay"


def out_in_the_images(folder, run):
    (folder / "images").mkdir()
    Image.new("RGB", (20, 20)).save(folder / "images/a.png")
    return [run, "--images", folder / "images", "--out", folder / "images/out"], "is only read"


@pytest.mark.parametrize(
    "case",
    [broken_image, no_image, missing_image, bad_origin, no_run, no_config, other_weights, damaged_weights,
     bad_format, out_in_the_images],
    ids=lambda case: case.__name__,
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(real_run, tmp_path, capsys, case):
    words, message = case(tmp_path, real_run)
    before = files(tmp_path)
    assert run_tool(*([] if "--out" in words else ["--out", tmp_path / "out"]), *words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert files(tmp_path) == before


def test_a_large_image_and_an_unknown_tile_ask_for_the_tile(stock_runs, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1200, 40), "white").save(tmp_path / "images/wide.png")
    words = (stock_runs["plain_fpn"], "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert run_tool(*words) == 1
    assert "give --tile with their side in pixels" in capsys.readouterr().err
    assert run_tool(*words, "--tile", 300, "--formats", "coco") == 0
    detections = json.loads((tmp_path / "out/detections.json").read_text())
    assert all("looks_unknown" not in d for d in detections)
