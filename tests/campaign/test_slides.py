"""A slide through OpenSlide: tissue alone becomes tiles, at the magnification that is asked for, with its place."""

import numpy as np
import pytest
from PIL import Image
from scans import KNOWN, tissue

from osal_detectron2.campaign.start import begin
from osal_detectron2.core.errors import ConfigError


def write_slide(path):
    """A pyramid of 1024 px, tissue in the lower right quarter, glass elsewhere."""
    tifffile = pytest.importorskip("tifffile", reason="writes the slide of this test")
    full = np.full((1024, 1024, 3), 244, np.uint8)
    for row in (512, 768):
        for column in (512, 768):
            full[row : row + 256, column : column + 256] = tissue(row + column)[0]
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2, 4):
            file.write(full[::step, ::step], tile=(256, 256), photometric="rgb", subfiletype=int(step > 1))
    return full


def test_a_slide_becomes_tiles_of_tissue(settings, tmp_path):
    pytest.importorskip("openslide", reason="pip extra slides")
    full = write_slide(tmp_path / "case.svs")
    change = {"images": str(tmp_path / "case.svs"), "tile": 64, "downsample": 2.0, "classes": KNOWN}
    campaign = begin(tmp_path / "lung", settings(**change))
    tiles = campaign.coco("pool.json")["images"] + campaign.coco("test.json")["images"]
    assert {(t["origin"]["x"] >= 512, t["origin"]["y"] >= 512) for t in tiles} == {(True, True)}
    one = tiles[0]
    assert (one["width"], one["height"], one["group"]) == (64, 64, "case.svs")
    origin = one["origin"]
    assert (origin["parent"], origin["downsample"], origin["width"]) == ("case.svs", 2.0, 128)
    shown = np.asarray(Image.open(campaign.tiles / one["file_name"]).convert("RGB"), dtype=int)
    part = full[origin["y"] : origin["y"] + 128 : 2, origin["x"] : origin["x"] + 128 : 2]
    assert np.abs(shown - part).mean() < 3


def test_a_slide_without_openslide_is_one_line(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    (tmp_path / "case.svs").write_bytes(b"II*\0")
    with pytest.raises(ConfigError, match=r"case.svs: a slide is read by OpenSlide; pip install"):
        begin(tmp_path / "lung", settings(images=str(tmp_path / "case.svs")))
