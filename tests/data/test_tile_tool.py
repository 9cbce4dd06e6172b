"""`osal data tile`: the tiles that it writes hold the pixels of their windows, and nothing is overwritten."""

import json

import numpy as np
import pytest
from miniature_set import parents
from PIL import Image
from programs import osal

from osal_detectron2.core.errors import DataError, OutputError
from osal_detectron2.data.tiling import cut_file


@pytest.fixture
def source(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    (tmp_path / "in" / "slide").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "in" / "slide" / "p.png")
    (tmp_path / "in" / "train.json").write_text(json.dumps(parents([[45, 52, 10, 8]])))
    return tmp_path, pixels


def test_tool_writes_the_pixels_of_each_window_and_can_run_again(source, capsys):
    folder, pixels = source
    arguments = [
        "--json",
        f"{folder}/in/train.json",
        "--image-root",
        f"{folder}/in",
        "--out",
        f"{folder}/out",
    ]
    arguments += ["--tile", "40", "--edge", "pad"]
    assert osal("data", "tile", *arguments) == 0
    assert "1 images -> 6 tiles (5 without boxes); 1 boxes -> 1: 0 cut" in capsys.readouterr().out
    data = json.loads((folder / "out" / "train.json").read_text())
    for image in data["images"]:
        tile = np.asarray(Image.open(folder / "out" / "images" / image["file_name"]))
        assert tile.shape == (40, 40, 3)
        origin = image["origin"]
        w, h = origin["width"], origin["height"]
        part = pixels[origin["y"] : origin["y"] + h, origin["x"] : origin["x"] + w]
        assert (tile[:h, :w] == part).all() and (tile[h:] == 255).all() and (tile[:, w:] == 255).all()
    (folder / "out" / "images" / data["images"][0]["file_name"]).write_bytes(b"half")
    assert osal("data", "tile", *arguments) == 0
    assert "; 1 files written" in capsys.readouterr().out  # only the damaged one
    before = (folder / "out" / "train.json").read_bytes()
    assert osal("data", "tile", *arguments, "--cut-boxes", "whole") == 1
    assert "made from other input or options" in capsys.readouterr().err
    assert (folder / "out" / "train.json").read_bytes() == before


def test_output_never_replaces_its_own_input(source):
    folder, _ = source
    before = (folder / "in" / "train.json").read_bytes()
    with pytest.raises(OutputError):
        cut_file(str(folder / "in" / "train.json"), str(folder / "in"), str(folder / "in"), tile=50)
    assert (folder / "in" / "train.json").read_bytes() == before


def test_several_files_go_into_one_folder_and_never_over_each_other(source, capsys):
    folder, pixels = source
    (folder / "in" / "other").mkdir()
    for name, place in (("test", "other/q.png"), ("third", "other/p.png")):
        Image.fromarray(255 - pixels).save(folder / "in" / place)
        (folder / "in" / f"{name}.json").write_text(json.dumps(parents([], name=place)))
    files = [str(folder / "in" / f"{name}.json") for name in ("train", "test", "third")]
    options = ["--image-root", f"{folder}/in", "--out", f"{folder}/out", "--tile", "50"]
    assert osal("data", "tile", "--json", *files[:2], *options) == 0
    before = {p.name: p.read_bytes() for p in (folder / "out" / "images").iterdir()}
    assert len(before) == 4 and "1 images of 100x60 px: 2 tiles of 50 px across" in capsys.readouterr().out
    assert osal("data", "tile", "--json", files[2], *options) == 1
    assert "is a tile of" in capsys.readouterr().err and not (folder / "out" / "third.json").exists()
    assert {p.name: p.read_bytes() for p in (folder / "out" / "images").iterdir()} == before


def test_bad_images_are_named_and_no_json_is_left(source):
    folder, _ = source
    path = folder / "in" / "slide" / "p.png"
    whole = path.read_bytes()
    arguments = str(folder / "in" / "train.json"), str(folder / "in"), str(folder / "out")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="p.png: cannot be decoded"):
        cut_file(*arguments, tile=50)
    Image.new("RGB", (100, 61)).save(path)
    with pytest.raises(DataError, match="is 100x61 pixels, the JSON says 100x60"):
        cut_file(*arguments, tile=50)
    path.unlink()
    with pytest.raises(DataError, match="p.png: no such image"):
        cut_file(*arguments, tile=50)
    assert not (folder / "out" / "train.json").exists()
