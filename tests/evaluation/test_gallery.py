import numpy as np
import pytest
from miniature_run import TILES, make_run
from PIL import Image

from osal_detectron2.core.errors import DataError
from osal_detectron2.core.store import write_json
from osal_detectron2.evaluation import gallery
from osal_detectron2.evaluation.boxes import legend_entries, look_of
from osal_detectron2.evaluation.gallery import draw_gallery, gallery_for_round
from osal_detectron2.evaluation.palette import CLASS_COLORS, EXTRA_COLOR, UNKNOWN_COLOR, class_color, rgb

TUMOR, LYMPHOCYTE, UNKNOWN = rgb(class_color(0)), rgb(class_color(1)), rgb(UNKNOWN_COLOR)


def grey_tile(path, size=(100, 80)):
    Image.new("RGB", size, (128, 128, 128)).save(path)
    return str(path)


def tile(path, *boxes, caption="why", title="rank 1"):
    """Boxes are (xywh, look)."""
    picture = {
        "heading": "annotated",
        "boxes": [box for box, _ in boxes],
        "looks": [look for _, look in boxes],
    }
    picture["labels"] = [""] * len(boxes)
    return {"image_path": path, "pictures": [picture], "title": title, "caption": caption}


def pictures_of(path):
    """The first picture of the sheet, a grey tile of 380 x 304 pixels."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    grey = (sheet == 128).all(axis=2)
    rows = np.nonzero(grey.sum(axis=1) > 150)[0]
    columns = np.nonzero(grey.sum(axis=0) > 60)[0]
    return sheet[rows.min() :, columns.min() :][:304, :380]


def pixels_of(path, color):
    return int((pictures_of(path) == color).all(axis=2).sum())


def test_each_class_has_its_colour_and_unknown_boxes_are_dashed_on_a_rim(tmp_path):
    image = grey_tile(tmp_path / "a.png")
    box = [20, 20, 40, 30]
    found = {}
    looks = {
        "tumor": look_of(0),
        "lymphocyte": look_of(1),
        "unknown": look_of(None),
        "unsure": look_of(0, dashed=True),
    }
    for name, look in looks.items():
        draw_gallery(tmp_path / f"{name}.png", [tile(image, (box, look))], [])
        path = tmp_path / f"{name}.png"
        found[name] = {c: pixels_of(path, c) for c in (TUMOR, LYMPHOCYTE, UNKNOWN, (0, 0, 0))}
    # 3.8 times enlarged, 2 pixels wide: a perimeter of 532 gives about 1064 pixels.
    solid = found["tumor"][TUMOR]
    assert 900 < solid < 1150 and not found["tumor"][LYMPHOCYTE]
    assert 900 < found["lymphocyte"][LYMPHOCYTE] < 1150 and not found["lymphocyte"][TUMOR]
    for name, color in (("unknown", UNKNOWN), ("unsure", TUMOR)):
        assert 0.35 * solid < found[name][color] < 0.75 * solid
        assert found[name][(0, 0, 0)] > 1.3 * found["tumor"][(0, 0, 0)], "the rim also fills the gaps"


def test_the_palette_tells_its_colours_apart():
    """Also without a sense for red, roughly: by what is left of a colour for a deuteranope."""

    def seen(color):
        r, g, b = (value / 255 for value in rgb(color))
        return np.array([0.625 * r + 0.375 * g, 0.7 * r + 0.3 * g, 0.3 * g + 0.7 * b])

    assert len(set(CLASS_COLORS)) == len(CLASS_COLORS) == 10
    first = [*CLASS_COLORS[:6], UNKNOWN_COLOR, EXTRA_COLOR]
    for i, one in enumerate(first):
        for other in first[i + 1 :]:
            assert np.abs(seen(one) - seen(other)).max() > 0.08, (one, other)


def test_a_box_is_drawn_where_the_nucleus_is(tmp_path):
    draw_gallery(
        tmp_path / "g.png", [tile(grey_tile(tmp_path / "a.png"), ([20, 20, 40, 30], look_of(0)))], []
    )
    rows, columns = np.nonzero((pictures_of(tmp_path / "g.png") == TUMOR).all(axis=2))
    assert np.abs([columns.min(), columns.max()] - 3.8 * np.array([20, 60])).max() <= 2
    assert np.abs([rows.min(), rows.max()] - 3.8 * np.array([20, 50])).max() <= 2


def test_all_tiles_are_laid_out_in_columns_and_long_texts_make_room(tmp_path):
    image = grey_tile(tmp_path / "a.png")
    cases = {
        "one": [tile(image)] * 2,
        "two": [tile(image)] * 3,
        "long": [tile(image, caption="a reason " * 40)] * 2,
    }
    cases["name"] = [tile(image, title="TCGA_" * 60)] * 2
    sizes = {}
    for name, tiles in cases.items():
        draw_gallery(tmp_path / f"{name}.png", tiles, legend_entries(["tumor"], unknown=True), columns=2)
        sizes[name] = Image.open(tmp_path / f"{name}.png").size
    assert len({width for width, _ in sizes.values()}) == 1
    assert sizes["two"][1] > sizes["one"][1] + 330
    assert sizes["long"][1] > sizes["one"][1] + 60
    assert sizes["name"][1] > sizes["one"][1] + 100, "a name is whole, however long"


@pytest.fixture
def run(tmp_path):
    records = {key: {"file_name": grey_tile(tmp_path / key)} for key in TILES}
    return make_run(tmp_path / "run"), records


def test_gallery_of_a_round_shows_what_the_oracle_answered(run):
    folder, records = run
    path = gallery_for_round(folder, 1, records)
    assert path == folder / "rounds" / "001" / "gallery.png"
    # c.png holds 1 tumor and 3 unknown nuclei of one size.
    known, unknown = pixels_of(path, TUMOR), pixels_of(path, UNKNOWN)
    assert 0 < known < unknown < 3.5 * known and not pixels_of(path, LYMPHOCYTE)
    assert gallery_for_round(folder, 2, records) is None, "the last round queries nothing"


def test_detections_stand_beside_the_truth_and_words_beside_numbers(run, monkeypatch):
    folder, records = run
    alone = Image.open(gallery_for_round(folder, 0, records)).size
    found = {"boxes": [[10, 10, 20, 20], [60, 40, 20, 20]], "classes": ["tumor", "lymphocyte"], "scores": [0.9, 0.4],
             "looks_unknown": [True, None]}  # fmt: skip
    nothing = {"boxes": [], "classes": [], "scores": [], "looks_unknown": []}
    content = {
        "schema": "osal-detections/1",
        "score_thresh": 0.3,
        "tiles": {"b.png": found, "e.png": nothing},
    }
    write_json(folder / "rounds/000/detections.json", content)
    drawn = {}
    monkeypatch.setattr(
        gallery, "draw_gallery", lambda path, tiles, legend: drawn.update(tiles=tiles, legend=legend)
    )
    gallery_for_round(folder, 0, records)
    tile = drawn["tiles"][0]
    truth, detected = tile["pictures"]
    assert truth["heading"] == "annotated: 2 tumor, 1 lymphocyte; 0 unknown"
    assert detected["heading"] == "detected (score 0.3 or more): 1 tumor, 1 lymphocyte; 1 look unknown"
    assert detected["looks"] == [look_of(0, dashed=True), look_of(1)] and detected["boxes"] == found["boxes"]
    assert tile["title"] == "1. b.png" and "uncertainty 0" in tile["caption"]
    assert [text for _, text in drawn["legend"]] == ["tumor", "lymphocyte", "unknown class", "looks unknown"]
    monkeypatch.undo()
    assert Image.open(gallery_for_round(folder, 0, records)).width > 1.8 * alone[0]


def test_max_tiles_limits_the_gallery_and_labels_may_still_be_missing(run):
    folder, records = run
    whole = Image.open(gallery_for_round(folder, 1, records)).size
    assert Image.open(gallery_for_round(folder, 1, records, max_tiles=1)).size[0] < whole[0]
    (folder / "rounds" / "001" / "labels.json").unlink()
    path = gallery_for_round(folder, 1, records)
    assert pixels_of(path, TUMOR) == 0


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
