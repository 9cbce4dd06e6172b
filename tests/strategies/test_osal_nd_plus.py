"""OSAL-ND+: hand-computed parts, and what each switch changes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import play
from test_strategies import answer, pool

from osal_detectron2.strategies import QueryContext, get_strategy
from osal_detectron2.strategies.osal_nd_plus import OSALNDPlus, class_shares, greedy_batch

A, B = (9.0, -9.0, -9.0), (-9.0, 9.0, -9.0)  # two known classes, background


def tile(*, logits, known=None):
    """Boxes in a row, found by both detectors; known: which of them are nearer to the known prototype."""
    n = len(logits)
    boxes = np.array([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(n)]).reshape(n, 4)
    known = np.ones(n, bool) if known is None else np.array(known)
    return {
        "boxes": boxes, "scores": np.ones(n), "classes": np.zeros(n, int), "logits": np.array(logits).reshape(n, 3),
        "dist_known": np.where(known, 1.0, 5.0), "dist_unknown": np.where(known, 5.0, 1.0),
    }  # fmt: skip


def select(strategy, tiles, *, budget, labelled=None):
    """labelled: key -> nuclei of each class."""
    context = QueryContext(
        pool=tuple(tiles),
        budget=budget,
        seed=0,
        round_index=1,
        labelled=labelled or {},
        known_classes=("a", "b"),
    )
    return play(strategy, context, lambda request: {k: tiles[k] for k in request.over})


def test_nuclei_that_look_unknown_count_nothing():
    tiles = {"unknown": tile(logits=[A] * 5, known=[False] * 5), "known": tile(logits=[A] * 2)}
    selection = select(OSALNDPlus(), tiles, budget=2)
    assert selection.selected == ("known", "unknown")
    assert selection.scores["expected_known"] == pytest.approx({"known": 2.0, "unknown": 0.0})
    assert select(OSALNDPlus(purity=False), tiles, budget=1).selected == ("unknown",)


def test_balance_prefers_the_class_with_few_labels():
    tiles = {"much_a": tile(logits=[A] * 5), "some_b": tile(logits=[B] * 2)}
    labelled = {"old": {"a": 50, "b": 2, "unknown": 900}}
    balanced = select(OSALNDPlus(), tiles, budget=1, labelled=labelled)
    assert balanced.selected == ("some_b",) and balanced.reasons["some_b"] == "rank 1: expected 0.0 a, 2.0 b"
    assert balanced.scores["gain"]["some_b"] == pytest.approx(np.log(1 + 2 / 3), abs=1e-4)
    assert select(OSALNDPlus(balance=False), tiles, budget=1, labelled=labelled).selected == ("much_a",)


def test_the_batch_saturates():
    expected = np.array([[10.0, 0.0], [0.0, 4.0], [9.0, 0.0]])
    rows, gains = greedy_batch(expected, [99, 4], size=3)
    assert rows == [1, 0, 2] and gains == pytest.approx([np.log(9 / 5), np.log(1.1), np.log(119 / 110)])
    assert greedy_batch(expected, None, size=3) == ([0, 2, 1], [10.0, 9.0, 4.0])
    twins = np.array([[0.0, 4.0], [0.0, 4.0], [60.0, 0.0]])
    assert greedy_batch(twins, [99, 4], size=2)[0] == [0, 2]  # .59 of the first, then .47 against .37


def test_a_box_takes_the_posterior_of_the_target_s_box_there():
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]])
    target = {
        "boxes": np.array([[0, 0, 10, 9], [100, 0, 110, 10.0]]),
        "logits": np.log([[0.6, 0.2, 0.2], [1, 1, 1]]),
    }
    nothing = {"boxes": np.zeros((0, 4)), "logits": np.zeros((0, 3))}
    both, bare, none = class_shares([boxes, boxes, boxes[:0]], [target, nothing, target], [2, 6])
    assert both == pytest.approx(np.array([[0.75, 0.25], [0.3, 0.7]]))
    assert bare == pytest.approx(np.array([[0.3, 0.7], [0.3, 0.7]]))
    assert none.shape == (0, 2)


def test_many_tiles_at_once_share_as_each_alone():
    """Bit for bit: the last digits must not decide between equal tiles."""
    rng = np.random.default_rng(0)
    boxes, target = [], []
    for _ in range(70):
        found, offered = rng.integers(0, 9, 2)
        corners = rng.uniform(0, 40, (9, 2))
        placed = np.hstack([corners, corners + rng.uniform(5, 30, (9, 2))]).astype(np.float32)
        boxes.append(placed[:found])
        logits = rng.normal(0, 3, (offered, 4)).astype(np.float32)
        target.append({"boxes": placed[:offered] + np.float32(rng.integers(-3, 4)), "logits": logits})
    together = class_shares(boxes, target, [3, 0, 9])
    alone = [class_shares([own], [row], [3, 0, 9])[0] for own, row in zip(boxes, target)]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_greedy_batch_is_within_1_minus_1_over_e_of_the_best(seed, tiles):
    rng = np.random.default_rng(seed)
    expected, have = rng.gamma(0.5, 10, (tiles, 3)), rng.integers(0, 50, 3)
    size = min(3, tiles)

    def value(rows):
        return np.log1p(expected[list(rows)].sum(axis=0) / (1.0 + have)).sum()

    best = max(value(rows) for rows in itertools.combinations(range(tiles), size))
    assert value(greedy_batch(expected, have, size=size)[0]) >= (1 - 1 / np.e) * best - 1e-4


def plain_greedy(expected, have, *, size):
    """What `greedy_batch` promises, with every gain computed at every choice."""
    rows, gains, sums = [], [], 1.0 + np.asarray(have)
    for _ in range(size):
        added = np.log1p(expected / sums).sum(axis=1)
        added[rows] = -1.0
        rows.append(int(np.argmax(added.round(5))))
        gains.append(float(added[rows[-1]]))
        sums = sums + expected[rows[-1]]
    return rows, gains


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 6), st.sampled_from([0, 1, 4]))
def test_gains_of_before_spare_work_and_change_nothing(seed, tiles, classes, decimals):
    rng = np.random.default_rng(seed)  # few decimals: many equal rows
    expected, have = rng.gamma(0.5, 3, (tiles, classes)).round(decimals), rng.integers(0, 50, classes)
    size = int(rng.integers(1, tiles + 1))
    assert greedy_batch(expected, have, size=size) == plain_greedy(expected, have, size=size)


def test_without_balance_it_picks_as_pcss_does():
    context = QueryContext(pool=pool(30), budget=6, seed=0, round_index=1, known_classes=("a", "b", "c"))
    count = answer(get_strategy("pcss")(), context).scores["n_known"]
    ours = answer(OSALNDPlus(balance=False), context).selected
    assert [count[k] for k in ours] == sorted(count.values(), reverse=True)[:6]


def test_it_is_in_the_contract_with_every_switch():
    context = QueryContext(pool=pool(20), budget=5, seed=0, round_index=1, known_classes=("a", "b", "c"))
    for parts in ({"purity": False}, {"balance": False}):
        assert len(answer(OSALNDPlus(**parts), context).selected) == 5
