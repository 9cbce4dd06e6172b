"""Views: pixels and boxes move together, randomness has a name, and a real detector answers in view pixels."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import osal_detectron2.registration  # noqa: F401  (the heads and backbones)
from osal_detectron2 import add_osal_config
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.data.mapper import TileMapper
from osal_detectron2.scoring.pool import PoolScorer
from osal_detectron2.scoring.views import ViewMapper, check_view, make_view, view_names
from osal_detectron2.strategies import Detections

HEIGHT, WIDTH = 90, 120
SQUARE = np.array([70.0, 20.0, 95.0, 45.0])
BOXES = np.array([SQUARE, [10, 10, 40, 30], [5, 60, 60, 85]])


def write(folder, image, name="a.png"):
    """A tile on disk and its record."""
    Image.fromarray(image).save(folder / name)
    return {
        "file_name": str(folder / name), "image_id": 0, "image_key": name, "height": image.shape[0],
        "width": image.shape[1], "annotations": [],
    }  # fmt: skip


def plain(value, height=HEIGHT, width=WIDTH):
    return np.full((height, width, 3), value, np.uint8)


def mapper(short_edge=0):
    resize = [T.ResizeShortestEdge((short_edge,), 10_000, "choice")] if short_edge else []
    return TileMapper(augmentations=resize, image_format="RGB", with_labels=False)


def seen(record, view, *, reference=BOXES, short_edge=0, seed=0, round_index=0):
    look = ViewMapper(
        mapper(short_edge),
        view,
        seed=seed,
        round_index=round_index,
        reference={record["image_key"]: reference},
    )
    return look(record)


def pixels(record, view, **kwargs):
    return seen(record, view, **kwargs)["image"].permute(1, 2, 0).numpy()


def extent(bright, item):
    """The bounding box in view pixels of the True pixels of the network input."""
    height, width = bright.shape
    ys, xs = bright.nonzero()
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)
    return box * np.tile([item["width"] / width, item["height"] / height], 2)


@pytest.mark.parametrize("short_edge", [0, 200, 60])
@pytest.mark.parametrize(
    "view",
    [
        "identity",
        "noise:16",
        "hflip",
        "downscale:0.8",
        "downscale:0.37",
        "shrink:0.8",
        "rotate:5",
        "rotate:30",
    ],
)
def test_boxes_follow_a_bright_square(tmp_path, view, short_edge):
    image = plain(0)
    image[20:45, 70:95] = 255
    item = seen(write(tmp_path, image), view, short_edge=short_edge)
    measured = extent(item["image"][0].numpy() > 115, item)
    assert item["reference"].shape == (3, 4)
    # One pixel of the coarsest of tile, view and input, and the tips of a turned square that no pixel is full of.
    coarse = max(1.0, item["width"] / item["image"].shape[2])
    assert np.abs(measured - item["reference"][0]).max() <= (2.1 if "rotate" in view else 1.01) * coarse


def test_the_boxes_of_each_view_worked_out_by_hand():
    def moved(view, box):
        args = {"height": 100, "width": 200}
        made = make_view(view, **args, reference=np.zeros((0, 4)), rng=np.random.default_rng(0))
        return made.map_boxes(np.array([box]), **args)[0]

    assert moved("hflip", [10, 20, 30, 60]) == pytest.approx([170, 20, 190, 60])
    assert moved("downscale:0.8", [10, 20, 30, 60]) == pytest.approx([8, 16, 24, 48])
    assert moved("noise:8", [10, 20, 30, 60]) == pytest.approx([10, 20, 30, 60])
    # The canvas of a quarter turn is 100 wide and 200 high, squeezed to 200 by 100: (x, y) -> (2y, (200 - x) / 2).
    assert moved("rotate:90", [10, 20, 30, 60]) == pytest.approx([40, 85, 120, 95])
    # Boxes are clipped to the view.
    assert moved("downscale:0.8", [-10, 20, 300, 60]) == pytest.approx([0, 16, 160, 48])


def test_a_rotation_grows_boxes_by_their_hull_and_keeps_the_tile_whole(tmp_path):
    item = seen(write(tmp_path, plain(200)), "rotate:5")
    corners = item["image"][0][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert item["image"].shape == (3, HEIGHT, WIDTH)
    assert corners.max() < 100, "the corners of the canvas are black"
    sides = item["reference"][:, 2:] - item["reference"][:, :2]
    assert (sides > 0.95 * (BOXES[:, 2:] - BOXES[:, :2])).all()


def test_flipping_twice_is_the_identity(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    once = seen(write(tmp_path, image), "hflip")
    flipped = once["image"].permute(1, 2, 0).numpy()
    assert not np.array_equal(flipped, image)
    twice = seen(write(tmp_path, flipped, "b.png"), "hflip", reference=once["reference"])
    assert np.array_equal(twice["image"].permute(1, 2, 0).numpy(), image)
    assert twice["reference"] == pytest.approx(BOXES)


def test_the_identity_is_the_plain_mapper(tmp_path):
    record = write(tmp_path, plain(77))
    item, direct = seen(record, "identity", short_edge=200), mapper(200)(record)
    assert torch.equal(item["image"], direct["image"])
    assert (item["height"], item["width"]) == (HEIGHT, WIDTH)


def test_downscaling_changes_the_scale_that_the_detector_sees(tmp_path):
    item = seen(write(tmp_path, plain(9)), "downscale:0.8", short_edge=200)
    assert item["image"].shape == (3, 160, 214)  # of 200 x 267
    assert (item["height"], item["width"]) == (72, 96)


def test_shrinking_before_the_resize_leaves_the_scale_and_a_blur(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    record = write(tmp_path, image)
    item = seen(record, "shrink:0.8", short_edge=200)
    assert item["image"].shape == (3, 200, 267) == seen(record, "identity", short_edge=200)["image"].shape
    assert (item["height"], item["width"]) == (72, 96)
    assert (
        pixels(record, "shrink:0.8", short_edge=200).std()
        < 0.9 * pixels(record, "identity", short_edge=200).std()
    )
    # Without a resize of the detector nothing undoes it.
    assert seen(record, "shrink:0.8")["image"].shape == (3, 72, 96)


@pytest.mark.parametrize("std", [8, 48])
def test_noise_has_the_standard_deviation_asked_for_and_is_added_before_the_resize(tmp_path, std):
    record = write(tmp_path, plain(128))
    noise = pixels(record, f"noise:{std}").astype(float) - 128
    assert noise.std() == pytest.approx(std, rel=0.03)
    assert abs(noise.mean()) < std / 20
    # Interpolation between noisy pixels smooths; noise added afterwards would keep its deviation.
    assert pixels(record, f"noise:{std}", short_edge=4 * HEIGHT).std() < 0.8 * std


def test_noise_is_clamped_and_does_not_wrap_around(tmp_path):
    dark, light = (pixels(write(tmp_path, plain(v)), "noise:48") for v in (0, 255))
    assert dark.mean() == pytest.approx(48 / np.sqrt(2 * np.pi), rel=0.05)
    assert 255 - light.mean() == pytest.approx(48 / np.sqrt(2 * np.pi), rel=0.05)
    assert (dark == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_salt_and_pepper_hit_the_share_asked_for(tmp_path):
    view = pixels(write(tmp_path, plain(100)), "salt_pepper:0.1")
    assert (view == 255).all(axis=2).mean() == pytest.approx(0.05, abs=0.01)
    assert (view == 0).all(axis=2).mean() == pytest.approx(0.05, abs=0.01)
    assert set(np.unique(view)) == {0, 100, 255}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 4))
def test_cut_outs_keep_to_their_limits(seed, number):
    args = {"height": HEIGHT, "width": WIDTH, "reference": BOXES}
    view = make_view(f"cutout:{number}", **args, rng=np.random.default_rng(seed))
    cut = view.before_resize(plain(200))[..., 0] == 0
    shares = [cut[int(y0) : int(y1), int(x0) : int(x1)].mean() for x0, y0, x1, y1 in BOXES]
    assert max(shares) <= number * 0.4
    assert cut.mean() <= number * 0.2**2 * 1.2  # sides are rounded to pixels
    if cut.any():
        assert max(shares) >= 0.1


def test_one_cut_out_covers_a_tenth_to_four_tenths_of_a_box_and_moves_nothing(tmp_path):
    record = write(tmp_path, plain(200))
    found = 0
    for seed in range(20):
        item = seen(record, "cutout:1", seed=seed)
        cut = item["image"][0].numpy() == 0
        found += cut.any()
        shares = [cut[int(y0) : int(y1), int(x0) : int(x1)].mean() for x0, y0, x1, y1 in BOXES]
        assert not cut.any() or 0.1 <= max(shares) <= 0.4
        assert np.array_equal(item["reference"], BOXES)
    assert found == 20, "50 tries find a place on this tile"


def test_without_boxes_nothing_is_cut_and_the_reference_is_empty(tmp_path):
    record = write(tmp_path, plain(200))
    item = seen(record, "cutout", reference=np.zeros((0, 4)))
    assert (item["image"] == 200).all()
    for view in ("identity", "hflip", "rotate:5", "downscale:0.8"):
        assert seen(record, view, reference=np.zeros((0, 4)))["reference"].shape == (0, 4)


def test_a_random_view_depends_on_seed_round_tile_and_name_alone(tmp_path):
    record, other = (write(tmp_path, plain(128), name) for name in ("a.png", "b.png"))
    first = pixels(record, "noise:8")
    assert np.array_equal(first, pixels(record, "noise:8"))
    assert not np.array_equal(first, pixels(record, "noise:8", seed=1))
    assert not np.array_equal(first, pixels(record, "noise:8", round_index=1))
    assert not np.array_equal(first, pixels(other, "noise:8"))
    doubled = np.rint(2 * (first.astype(float) - 128))
    assert abs(np.corrcoef(doubled.ravel(), pixels(record, "noise:16").ravel())[0, 1]) < 0.05


def test_the_cached_tile_is_left_alone(tmp_path):
    record, cache = write(tmp_path, plain(128)), {}
    tile_mapper = TileMapper(augmentations=[], image_format="RGB", with_labels=False, cache=cache)
    for view in ("noise:48", "cutout", "salt_pepper:0.5", "hflip", "rotate:5"):
        ViewMapper(tile_mapper, view, seed=0, round_index=0, reference={"a.png": BOXES})(record)
    assert (cache[record["file_name"]] == 128).all()


@pytest.mark.parametrize(
    "name", ["mirror", "noise", "noise:", "noise:x", "noise:-1", "noise:nan", "hflip:1", "downscale:1.5", ""]
)
def test_an_unknown_view_lists_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"known views: identity, noise:<std>, .*downscale:<scale>"):
        check_view(name)


def test_the_names_of_all_views_are_documented_by_the_error():
    assert "cutout:[number],[min_size],[max_size],[min_overlap],[max_overlap]" in ",".join(view_names())


# ---- a real detector ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def detector():
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_torchvision_fpn_backbone"
    cfg.MODEL.TORCHVISION.NORM = "GN"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return build_model(cfg)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five tiles of two sizes."""
    folder, rng = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)
    sizes = [(64, 96), (64, 96), (80, 64), (64, 96), (80, 64)]
    made = [
        write(folder, rng.integers(0, 256, (*s, 3), dtype=np.uint8), f"{i}.png") for i, s in enumerate(sizes)
    ]
    return {r["image_key"]: r for r in made}


def request(records, view, boxes=((10.0, 10.0, 40.0, 30.0),)):
    reference = {k: np.array(boxes).reshape(-1, 4) for k in records}
    return Detections(over=tuple(records), view=view, fields=("logits",), reference=reference)


@pytest.mark.parametrize("view", ["noise:8", "cutout", "downscale:0.8", "rotate:5"])
def test_a_pass_over_a_view_does_not_depend_on_the_batch_or_the_order(detector, records, view):
    tables = []
    for batch_size, keys in ((1, list(records)), (4, list(records)[::-1])):
        scorer = PoolScorer(detector, {k: records[k] for k in keys}, mapper=mapper(96), batch_size=batch_size)
        tables.append(scorer.run(request({k: records[k] for k in keys}, view), seed=3, round_index=1))
        assert scorer.passes == {"target": 5}
    for key in records:
        one, many = tables[0][key], tables[1][key]
        assert len(one["scores"]) > 0
        assert set(one) == {"boxes", "scores", "classes", "logits", "reference"}
        for column in one:
            assert one[column] == pytest.approx(many[column], abs=1e-3)


@pytest.mark.parametrize("view", ["downscale:0.5", "hflip", "rotate:5"])
def test_detections_are_in_pixels_of_the_view(detector, records, tmp_path, view):
    """They are those on a file with the pixels of the view, brought from the size of the input to the view's."""
    scorer = PoolScorer(detector, records, mapper=mapper(96), batch_size=2)
    table = scorer.run(request(records, view))
    for key in ("0.png", "2.png"):
        item = seen(records[key], view, short_edge=96)
        stored = write(tmp_path, item["image"].permute(1, 2, 0).numpy(), key)
        direct = PoolScorer(detector, {key: stored}, mapper=mapper()).run(Detections(over=(key,)))[key][
            "boxes"
        ]
        scale = item["width"] / stored["width"], item["height"] / stored["height"]
        assert scale[0] < 0.8 and len(direct)
        assert table[key]["boxes"] == pytest.approx(direct * np.tile(scale, 2), abs=1e-3)


def test_views_and_references_are_never_taken_from_an_earlier_pass(detector, records):
    scorer = PoolScorer(detector, records, mapper=mapper(96), batch_size=2)
    clean = scorer.run(Detections(over=tuple(records), fields=("logits",)))
    assert "reference" not in clean["0.png"]
    again = scorer.run(Detections(over=tuple(records), fields=("logits",)))
    assert scorer.passes["target"] == 5 and again["0.png"]["boxes"] is clean["0.png"]["boxes"]
    noisy = {s: scorer.run(Detections(over=tuple(records), view="noise:48"), seed=s) for s in (0, 1)}
    assert not np.array_equal(noisy[0]["0.png"]["scores"], noisy[1]["0.png"]["scores"])
    other = scorer.run(request(records, "cutout", boxes=[(0.0, 0.0, 20.0, 20.0), (30.0, 30.0, 60.0, 60.0)]))
    assert len(other["0.png"]["reference"]) == 2
    third = scorer.run(request(records, "cutout"))
    assert len(third["0.png"]["reference"]) == 1
    assert scorer.passes == {"target": 25}
