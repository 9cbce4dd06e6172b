import numpy as np
import pytest
from miniature_run import TILES, make_run
from PIL import Image

from osal_detectron2.core.errors import DataError
from osal_detectron2.evaluation.gallery import KNOWN_COLOUR, UNKNOWN_COLOUR, draw_gallery, gallery_for_round

LEGEND_HEIGHT = 40


def grey_tile(path, size=(100, 80)):
    Image.new("RGB", size, (128, 128, 128)).save(path)
    return str(path)


def tile(path, *boxes, caption="why"):
    """Boxes are (xywh, known)."""
    return {
        "image_path": path,
        "boxes": [box for box, _ in boxes],
        "labels": ["tumor"] * len(boxes),
        "known": [known for _, known in boxes],
        "title": "rank 1",
        "caption": caption,
    }


def pixels_of(path, colour):
    """Pixels of a colour below the legend."""
    picture = np.asarray(Image.open(path).convert("RGB"))[LEGEND_HEIGHT:]
    return int((picture == colour).all(axis=2).sum())


def test_known_and_unknown_boxes_differ_in_colour_and_line(tmp_path):
    image = grey_tile(tmp_path / "a.png")
    box = [20, 20, 40, 30]
    draw_gallery(tmp_path / "known.png", [tile(image, (box, True))])
    draw_gallery(tmp_path / "unknown.png", [tile(image, (box, False))])
    draw_gallery(tmp_path / "none.png", [tile(image)])
    solid = pixels_of(tmp_path / "known.png", KNOWN_COLOUR)
    dashed = pixels_of(tmp_path / "unknown.png", UNKNOWN_COLOUR)
    assert pixels_of(tmp_path / "known.png", UNKNOWN_COLOUR) == 0
    assert pixels_of(tmp_path / "unknown.png", KNOWN_COLOUR) == 0
    assert (
        pixels_of(tmp_path / "none.png", KNOWN_COLOUR)
        == pixels_of(tmp_path / "none.png", UNKNOWN_COLOUR)
        == 0
    )
    # 3.8 times enlarged, 2 pixels wide: a perimeter of 532 gives about 1064 pixels.
    assert 900 < solid < 1150
    assert 0.35 * solid < dashed < 0.75 * solid


def test_a_box_is_drawn_where_the_nucleus_is(tmp_path):
    draw_gallery(tmp_path / "g.png", [tile(grey_tile(tmp_path / "a.png"), ([20, 20, 40, 30], True))])
    picture = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"))[LEGEND_HEIGHT:]
    rows, columns = np.nonzero((picture == KNOWN_COLOUR).all(axis=2))
    grey = np.nonzero((picture == (128, 128, 128)).all(axis=2))
    left, top = grey[1].min(), grey[0].min()
    assert np.abs([columns.min() - left, columns.max() - left] - 3.8 * np.array([20, 60])).max() <= 2
    assert np.abs([rows.min() - top, rows.max() - top] - 3.8 * np.array([20, 50])).max() <= 2


def test_all_tiles_are_laid_out_in_columns_and_long_captions_make_room(tmp_path):
    image = grey_tile(tmp_path / "a.png")
    draw_gallery(tmp_path / "one.png", [tile(image)] * 2, columns=2)
    draw_gallery(tmp_path / "two.png", [tile(image)] * 3, columns=2)
    draw_gallery(tmp_path / "long.png", [tile(image, caption="a reason " * 40)] * 2, columns=2)
    one, two, long = (Image.open(tmp_path / f"{name}.png").size for name in ("one", "two", "long"))
    assert one[0] == two[0] == long[0]
    assert two[1] - LEGEND_HEIGHT > 1.7 * (one[1] - LEGEND_HEIGHT)
    assert long[1] > one[1] + 60


@pytest.fixture
def run(tmp_path):
    records = {key: {"file_name": grey_tile(tmp_path / key)} for key in TILES}
    return make_run(tmp_path / "run"), records


def test_gallery_of_a_round_shows_what_the_oracle_answered(run):
    folder, records = run
    path = gallery_for_round(folder, 1, records)
    assert path == folder / "rounds" / "001" / "gallery.png"
    # c.png holds 1 known and 3 unknown nuclei of one size.
    known, unknown = pixels_of(path, KNOWN_COLOUR), pixels_of(path, UNKNOWN_COLOUR)
    assert 0 < known < unknown < 3 * known
    assert gallery_for_round(folder, 2, records) is None, "the last round queries nothing"


def test_max_tiles_limits_the_gallery_and_labels_may_still_be_missing(run):
    folder, records = run
    whole = Image.open(gallery_for_round(folder, 1, records)).size
    assert Image.open(gallery_for_round(folder, 1, records, max_tiles=1)).size[0] < whole[0]
    (folder / "rounds" / "001" / "labels.json").unlink()
    path = gallery_for_round(folder, 1, records)
    assert pixels_of(path, KNOWN_COLOUR) == pixels_of(path, UNKNOWN_COLOUR) == 0


def test_a_missing_or_broken_image_is_named_and_nothing_is_left(run, tmp_path):
    folder, records = run
    del records["f.png"]
    with pytest.raises(DataError, match="tile f.png"):
        gallery_for_round(folder, 1, records)
    (tmp_path / "c.png").write_bytes(b"not an image")
    records["f.png"] = records["a.png"]
    with pytest.raises(DataError, match="c.png: cannot be read as an image"):
        gallery_for_round(folder, 1, records)
    assert not list((folder / "rounds" / "001").glob("*gallery*"))
