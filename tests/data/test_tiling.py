"""Cutting images into tiles: which boxes go where, and the way back to the parent."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature_set import parents
from PIL import Image

from osal_detectron2.core.errors import DataError
from osal_detectron2.data.coco_file import coco_findings
from osal_detectron2.data.tiling import (
    CUT_RULES,
    boxes_in_window,
    cut_file,
    tile_coco,
    to_parent,
)
from osal_detectron2.data.windows import EDGE_RULES, layouts, tile_spans, tile_starts, tile_windows

ROOT = Path(__file__).parents[2]
CONSEP = Path(os.environ.get("OSAL_SHARED", ROOT.parent / "shared")) / "data" / "consep"


@pytest.mark.parametrize(
    ("arguments", "starts"),
    [
        ((1000, 250), [0, 250, 500, 750]),
        ((1000, 250, 50), [0, 200, 400, 600, 750]),
        ((600, 250), [0, 250, 350]),
        ((600, 250, 0, "pad"), [0, 250, 500]),
        ((600, 250, 0, "drop"), [0, 250]),
        ((100, 250), [0]),
        ((100, 250, 0, "pad"), [0]),
        ((100, 250, 0, "drop"), []),
        ((251, 250, 200), [0, 1]),
    ],
)
def test_tile_starts(arguments, starts):
    assert tile_starts(*arguments) == starts


@pytest.mark.parametrize("arguments", [(100, 0), (100, 10, 10), (100, 10, -1), (100, 10, 0, "mirror")])
def test_tile_starts_refuses(arguments):
    with pytest.raises(DataError):
        tile_starts(*arguments)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("center", {0: [10, 10, 8, 8], 1: [42, 5, 8, 10]}),
        ("visible", {0: [10, 10, 8, 8], 1: [42, 5, 8, 10], 2: [46, 20, 4, 10]}),
        ("whole", {0: [10, 10, 8, 8]}),
    ],
)
def test_rules_for_cut_boxes(rule, expected):
    # Window x 0..50. Shown: all, 8 of 12 columns, 4 of 12, 1 of 12.
    boxes = np.array([[10, 10, 8, 8], [42, 5, 12, 10], [46, 20, 12, 10], [49, 30, 12, 10]], dtype=float)
    kept, inside = boxes_in_window(boxes, np.zeros(4, dtype=bool), (0, 0, 50, 60), rule, min_visible=0.3)
    assert dict(zip(kept.tolist(), inside.tolist())) == expected


def test_a_center_on_the_seam_belongs_to_the_right_tile_only():
    box, crowd = np.array([[45.0, 5, 10, 10]]), np.array([False])
    assert len(boxes_in_window(box, crowd, (0, 0, 50, 60))[0]) == 0
    kept, inside = boxes_in_window(box, crowd, (50, 0, 50, 60))
    assert inside.tolist() == [[0, 5, 5, 10]]


def test_crowd_regions_stay_in_every_tile_they_touch():
    data = parents([[40, 0, 60, 20]], height=50)
    data["annotations"][0]["iscrowd"] = 1
    tiles, _ = tile_coco(data, tile=50)
    assert [entry["bbox"] for entry in tiles["annotations"]] == [[40, 0, 10, 20], [0, 0, 50, 20]]
    assert all(entry["iscrowd"] == 1 for entry in tiles["annotations"])


def test_tile_entries():
    data = parents([[45, 52, 10, 8]], group="patient-1")
    data["annotations"][0]["area"] = 60
    tiles, counts = tile_coco(data, tile=50, edge="shift")
    assert [image["file_name"] for image in tiles["images"]] == [
        "p_x000000_y000000.png",
        "p_x000050_y000000.png",
        "p_x000000_y000010.png",
        "p_x000050_y000010.png",
    ]
    assert tiles["images"][3]["origin"] == {
        "parent": "slide/p.png", "x": 50, "y": 10, "width": 50, "height": 50,
    }  # fmt: skip
    assert {image["group"] for image in tiles["images"]} == {"patient-1"}
    (entry,) = tiles["annotations"]
    assert (entry["image_id"], entry["bbox"], entry["area"], entry["parent_id"]) == (4, [0, 42, 5, 8], 30, 1)
    assert counts == {
        "images": 1, "tiles": 4, "empty_tiles": 3, "boxes": 1, "tile_boxes": 1, "cut": 1,
        "repeated": 0, "lost": 0,
        "layouts": [
            "1 images of 100x60 px: 2 tiles of 50 px across, "
            "2 tiles of 50 px that share up to 40 (most of a tile: annotated twice) down"
        ],
    }  # fmt: skip


def test_group_defaults_to_the_parent():
    assert tile_coco(parents([]), tile=50)[0]["images"][0]["group"] == "slide/p.png"


def test_edges_say_what_becomes_of_the_rest():
    boxes = [
        [2, 2, 4, 4],
        [2, 54, 4, 4],
        [2, 42, 4, 4],
    ]  # y: first tile, last 10 rows, in the shifted overlap
    even, shift, pad, drop = (tile_coco(parents(boxes, width=50), tile=50, edge=edge) for edge in EDGE_RULES)
    assert [image["height"] for image in even[0]["images"]] == [60]
    assert (even[1]["repeated"], even[1]["lost"]) == (0, 0)
    assert [(image["height"], image["origin"]["y"]) for image in shift[0]["images"]] == [(50, 0), (50, 10)]
    assert (shift[1]["repeated"], shift[1]["lost"]) == (1, 0)
    assert [(image["height"], image["origin"]["height"]) for image in pad[0]["images"]] == [
        (50, 50),
        (50, 10),
    ]
    assert (pad[1]["repeated"], pad[1]["lost"]) == (0, 0)
    assert len(drop[0]["images"]) == 1 and (drop[1]["repeated"], drop[1]["lost"]) == (0, 1)


@pytest.mark.parametrize("names", [("a/1.png", "b/1.png"), ("1.png", "1.jpg"), ("s.png", "S.png")])
def test_equal_stems_are_refused(names):
    data = parents([])
    data["images"] = [{**data["images"][0], "id": row, "file_name": name} for row, name in enumerate(names)]
    with pytest.raises(DataError, match="same stem"):
        tile_coco(data, tile=50)


@st.composite
def plans(draw):
    width, height = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    tile = draw(st.integers(4, 60))
    side = st.floats(0.01, 60, allow_nan=False)
    place = st.floats(-5, 119, allow_nan=False)
    boxes = draw(st.lists(st.tuples(place, place, side, side), max_size=12))
    boxes = [(x, y, w, h) for x, y, w, h in boxes if x < width - 0.01 and y < height - 0.01]
    boxes = [box for box in boxes if box[0] + box[2] > 0.01 and box[1] + box[3] > 0.01]
    return width, height, tile, draw(st.integers(0, tile - 1)), boxes


@settings(max_examples=150, deadline=None)
@given(plans(), st.sampled_from(EDGE_RULES), st.sampled_from(CUT_RULES))
def test_tiles_lead_back_to_their_parent(plan, edge, rule):
    width, height, tile, overlap, boxes = plan
    data = parents(boxes, width, height)
    tiles, counts = tile_coco(data, tile=tile, overlap=overlap, edge=edge, rule=rule)
    assert coco_findings(tiles, "tiles.json") == []  # in particular: every box inside its tile, none flat
    images = {image["id"]: image for image in tiles["images"]}
    originals = {entry["id"]: entry["bbox"] for entry in data["annotations"]}
    for entry in tiles["annotations"]:
        (x, y, w, h), (px, py, pw, ph) = (
            to_parent([entry["bbox"]], images[entry["image_id"]]["origin"])[0],
            (originals[entry["parent_id"]]),
        )
        assert x >= px - 1e-9 and y >= py - 1e-9 and x + w <= px + pw + 1e-9 and y + h <= py + ph + 1e-9
        if rule == "visible":
            inside = (min(px + pw, width) - max(px, 0)) * (min(py + ph, height) - max(py, 0))
            assert w * h >= 0.3 * inside - 1e-6
    assert counts["tile_boxes"] == counts["boxes"] + counts["repeated"] - counts["lost"]
    if rule == "center" and edge != "drop":
        assert counts["lost"] == 0
        if edge in ("even", "pad") and overlap == 0:
            assert counts["repeated"] == 0


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 400), st.data())
def test_even_tiles_cover_all_once_and_are_of_nearly_the_size_asked_for(size, tile, data):
    overlap = data.draw(st.integers(0, tile - 1) | st.just(0))
    spans = tile_spans(size, tile, overlap, "even")
    ends = [start + length for start, length in spans]
    assert spans[0][0] == 0 and ends[-1] == size
    shared = [end - start for end, (start, _) in zip(ends, spans[1:])]
    assert set(shared) <= {overlap}
    lengths = [length for _, length in spans]
    assert max(lengths) - min(lengths) <= 1
    if size >= tile:
        assert 2 / 3 * tile - 1 <= min(lengths) <= max(lengths) <= 1.5 * tile + 1
    if size % tile == 0 and not overlap:
        assert spans == [(start, tile) for start in range(0, size, tile)]


def test_a_little_more_than_a_multiple_gives_no_twins_and_counts_every_box_once():
    boxes = [[x, y, 6, 6] for x in range(0, 499, 7) for y in range(0, 499, 7)]
    data = parents(boxes, width=505, height=505)
    tiles, counts = tile_coco(data, tile=250)
    assert [(i["origin"]["x"], i["width"]) for i in tiles["images"]] == [(0, 252), (252, 253)] * 2
    assert counts["tile_boxes"] == counts["boxes"] and counts["repeated"] == counts["lost"] == 0
    assert counts["layouts"] == [
        "1 images of 505x505 px: 2 tiles of 252-253 px across, 2 tiles of 252-253 px down"
    ]
    assert "share up to 245 (most of a tile" in layouts(data["images"], tile=250, edge="shift")[0]


def test_files_of_sizes_that_divide_are_those_of_earlier_versions():
    even = tile_coco(parents([[3, 3, 9, 9]]), tile=20)[0]
    assert even == tile_coco(parents([[3, 3, 9, 9]]), tile=20, edge="shift")[0]
    assert even["info"]["tiling"] == {"tile": 20, "overlap": 0, "edge": "shift", "cut_boxes": "center"}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.data())
def test_windows_cover_every_pixel(width, height, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    for edge in ("even", "shift", "pad"):
        seen = np.zeros((height, width), dtype=int)
        for x, y, w, h in tile_windows(width, height, tile, overlap, edge):
            assert (
                0 < w
                and 0 < h
                and (edge == "even" or max(w, h) <= tile)
                and x + w <= width
                and y + h <= height
            )
            seen[y : y + h, x : x + w] += 1
        assert seen.all()
        if edge in ("even", "pad") and overlap == 0:
            assert seen.max() == 1


@pytest.mark.skipif(not CONSEP.is_dir(), reason="CoNSeP is not beside the repository (OSAL_SHARED)")
@pytest.mark.parametrize(("split", "count"), [("train", 432), ("test", 224)])
def test_consep_keeps_every_nucleus(split, count):
    data = json.loads((CONSEP / f"{split}.json").read_text())
    tiles, counts = tile_coco(data, tile=250)
    assert len(tiles["images"]) == count and counts["lost"] == counts["repeated"] == 0
    classes = [Counter(entry["category_id"] for entry in part["annotations"]) for part in (data, tiles)]
    assert classes[0] == classes[1]


@pytest.mark.skipif(not CONSEP.is_dir(), reason="CoNSeP is not beside the repository (OSAL_SHARED)")
def test_consep_pixels(tmp_path):
    data = json.loads((CONSEP / "test.json").read_text())
    data["images"] = data["images"][:1]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] == data["images"][0]["id"]]
    (tmp_path / "one.json").write_text(json.dumps(data))
    counts = cut_file(str(tmp_path / "one.json"), str(CONSEP / "images"), str(tmp_path / "out"), tile=250)
    assert (counts["tiles"], counts["written"]) == (16, 17)
    whole = np.asarray(Image.open(CONSEP / "images" / data["images"][0]["file_name"]).convert("RGB"))
    tile = np.asarray(Image.open(tmp_path / "out" / "images" / "test_1_x000500_y000250.png"))
    assert (tile == whole[250:500, 500:750]).all()
