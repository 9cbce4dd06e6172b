"""Which tiles are asked for first, by numbers alone."""

from collections import Counter

import numpy as np
import pytest

from osal_detectron2.campaign.spread import draw, hold_apart, shares, spread


def clusters(sizes, *, seed=0):
    """Points about as many centres, which are far from each other, and the centre of each."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return 20 * random.normal(size=(len(sizes), 5))[owner] + random.normal(size=(len(owner), 5)), owner


def test_every_look_is_asked_by_its_size_and_no_slide_fills_the_batch():
    points, owner = clusters([60, 30, 28, 2])
    slides = [f"s{i % 3}" for i in range(len(points))]
    rows, reasons = spread(points, slides, 12, seed=0)
    asked = Counter(owner[rows].tolist())
    assert len(set(rows)) == len(reasons) == 12
    assert asked[0] == pytest.approx(6, abs=1) and asked[1] == pytest.approx(3, abs=1) and asked[3] <= 1
    assert max(Counter(slides[row] for row in rows).values()) <= 5
    assert spread(points, slides, 12, seed=0) == (rows, reasons)


def test_the_slide_that_was_asked_least_comes_next():
    points = np.random.default_rng(0).normal(size=(40, 5))
    order = np.argsort(((points - points.mean(axis=0)) ** 2).sum(axis=1))
    slides = np.array(["far "] * 40)
    slides[order[:10]] = "near"
    rows, _ = spread(np.vstack([points, points + 50]), [*slides, *slides], 2, seed=0)
    assert sorted(np.array([*slides, *slides])[rows]) == ["far ", "near"]


def test_tiles_of_one_look_are_enough():
    rows, _ = spread(np.zeros((9, 5)), ["s"] * 9, 4, seed=0)
    assert len(set(rows)) == 4
    assert len(spread(np.zeros((3, 5)), ["s"] * 3, 7, seed=0)[0]) == 3


def test_shares_are_in_proportion():
    assert (
        shares([60, 30, 10], 10) == [6, 3, 1]
        and shares([5, 5, 5], 4) == [2, 1, 1]
        and sum(shares([7, 1], 3)) == 3
    )


def test_whole_slides_are_kept_apart_until_they_fill_a_sitting():
    slides = [f"s{i // 5}" for i in range(100)]  # 20 slides of 5 tiles
    chosen, apart = hold_apart(slides, fraction=0.1, tiles=4, seed=0)
    assert apart and len(chosen) == 2
    assert len(hold_apart(slides, fraction=0.1, tiles=23, seed=0)[0]) == 5
    assert len(hold_apart(slides, fraction=0.1, tiles=500, seed=0)[0]) == 10, "never more than half"
    assert hold_apart(["s"] * 9, fraction=0.2, tiles=4, seed=0) == (set(), False)
    assert hold_apart(slides, fraction=0.1, tiles=4, seed=1)[0] != chosen


def test_the_test_tiles_are_a_fair_draw():
    keys = [f"k{i}" for i in range(10)]
    counts = Counter(key for seed in range(300) for key in draw(keys, 3, seed=seed))
    assert all(count == pytest.approx(90, abs=35) for count in counts.values()) and len(counts) == 10
