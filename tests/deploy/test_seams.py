"""Nuclei on the seams of windows are kept once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osal_detectron2.deploy.seams import merge_windows, once_each

LEFT, RIGHT = (0, 0, 60, 50), (40, 0, 60, 50)  # they share x 40 to 60 of an image of 100 x 50


def table(*rows):
    """(x0, y0, x1, y1, score, class) in pixels of the window."""
    rows = np.array(rows, float).reshape(-1, 6)
    return {"boxes": rows[:, :4], "scores": rows[:, 4], "classes": rows[:, 5].astype(int)}


def merged(left, right, **options):
    result = merge_windows([left, right], [LEFT, RIGHT], **options)
    return [(*box, score) for box, score in zip(result["boxes"].tolist(), result["scores"].tolist())]


def test_a_nucleus_in_both_windows_is_kept_once_with_the_better_score():
    # The second window sees it at x - 40, a pixel off, and calls it another class.
    assert merged(table([44, 10, 54, 20, 0.7, 0]), table([5, 10, 15, 20, 0.8, 1])) == [(45, 10, 55, 20, 0.8)]


def test_the_whole_nucleus_wins_over_its_part_even_with_a_lower_score():
    # Cut at x = 60 in the left window: 4 of 16 pixels are shown, IoU 0.25.
    assert merged(table([56, 10, 60, 20, 0.9, 0]), table([16, 10, 32, 20, 0.6, 0])) == [(56, 10, 72, 20, 0.6)]


def test_boxes_of_one_window_are_left_alone():
    both = table([10, 10, 30, 30, 0.9, 0], [12, 12, 20, 20, 0.8, 1])
    assert len(merged(both, table())) == 2


def test_the_border_of_the_image_cuts_nothing():
    # At x = 100 the right window ends where the image does, so its box is whole and its score decides.
    windows = [(0, 0, 100, 50), RIGHT]
    found = merge_windows([table([88, 5, 99, 15, 0.5, 0]), table([49, 5, 60, 15, 0.9, 0])], windows)
    assert found["scores"].tolist() == [0.9]
    # Of a larger image it would be cut, and give way.
    windows = [(0, 0, 110, 50), RIGHT]
    found = merge_windows([table([88, 5, 99, 15, 0.5, 0]), table([49, 5, 60, 15, 0.9, 0])], windows)
    assert found["scores"].tolist() == [0.5]


def test_padding_beyond_the_window_is_dropped_and_boxes_are_clipped_to_it():
    found = merged(table([58, 10, 66, 20, 0.9, 0], [70, 10, 80, 20, 0.8, 0]), table())
    assert found == [(58, 10, 60, 20, 0.9)]


def test_empty_windows():
    assert merged(table(), table()) == []


@st.composite
def rows_of_windows(draw):
    number = draw(st.integers(0, 25))
    integers = st.integers(0, 40)
    boxes = [(x, y, x + draw(st.integers(1, 15)), y + draw(st.integers(1, 15)))
             for x, y in ((draw(integers), draw(integers)) for _ in range(number))]  # fmt: skip
    scores = draw(st.lists(st.floats(0, 1), min_size=number, max_size=number))
    owners = draw(st.lists(st.integers(0, 2), min_size=number, max_size=number))
    cut = draw(st.lists(st.booleans(), min_size=number, max_size=number))
    return np.array(boxes, float).reshape(-1, 4), np.array(scores), np.array(owners), np.array(cut, bool)


def same(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = sides.clip(min=0).prod()
    areas = [(x[2:] - x[:2]).prod() for x in (a, b)]
    return common > 0 and (common >= 0.5 * (sum(areas) - common) or common >= 0.7 * min(areas))


@settings(max_examples=60, deadline=None)
@given(rows_of_windows())
def test_it_is_the_greedy_rule_of_every_pair(drawn):
    boxes, scores, owners, cut = drawn
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda i: (cut[i], -scores[i], i)):
        if not any(owners[row] != owners[k] and same(boxes[k], boxes[row]) for k in kept):
            kept.append(row)
    found = once_each(boxes, scores, owners, cut)
    assert sorted(found.tolist()) == sorted(kept)
    assert (np.diff(scores[found]) <= 0).all()


def test_a_slide_of_many_nuclei_takes_seconds():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 10_000, size=(30_000, 2))
    boxes = np.hstack([corners, corners + 20])
    kept = once_each(
        np.vstack([boxes, boxes + 1]), np.ones(60_000), np.repeat([0, 1], 30_000), np.zeros(60_000, bool)
    )
    assert len(kept) == pytest.approx(30_000, rel=0.05)
