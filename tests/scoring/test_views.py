"""Views: pixels and boxes move together, randomness has a name, and what is cut or added keeps to its limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from view_tiles import BOXES, HEIGHT, WIDTH, mapper, seen, write

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.data.mapper import TileMapper
from osal_detectron2.scoring.views import ViewMapper, check_view, make_view, view_names


def plain(value, height=HEIGHT, width=WIDTH):
    return np.full((height, width, 3), value, np.uint8)


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
