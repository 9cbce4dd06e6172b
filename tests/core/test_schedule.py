from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.core.schedule import RoundSchedule, tiles


def plan(**changes):
    values = {
        "total": 100,
        "init": 5,
        "query": 15,
        "num_queries": 5,
        "epochs": 26,
        "min_iters": 1,
        "batch": 4,
    }
    return RoundSchedule.plan(**{**values, **changes})


@pytest.mark.parametrize(
    "fraction, total, expected",
    # 14.5 and 2.5 go up; 0.29 * 50 is 14.499999999999998 and 1.005 * 100 in binary floats.
    [
        (0.05, 100, 5),
        (0.29, 50, 15),
        (0.05, 50, 3),
        (0.15, 10, 2),
        (0.05, 3, 1),
        (1.0, 7, 7),
        (0.15, 1744, 262),
    ],
)
def test_tiles_rounds_halves_up_and_gives_one_at_least(fraction, total, expected):
    assert tiles(fraction, total) == expected


@pytest.mark.parametrize("fraction, total", [(0, 10), (-0.1, 10), (1.1, 10), (float("nan"), 10), (0.5, 0)])
def test_fractions_that_make_no_sense(fraction, total):
    with pytest.raises(ConfigError):
        tiles(fraction, total)


def test_the_papers_fractions():
    schedule = plan(total=100, init=tiles(0.05, 100), query=tiles(0.15, 100))
    assert schedule.labelled == (5, 20, 35, 50, 65, 80)
    # ceil(26 * 5 / 4) = 33, ceil(26 * 20 / 4) = 130, 227.5 -> 228, 325, 422.5 -> 423, 520
    assert [schedule.iterations(r) for r in range(6)] == [33, 130, 228, 325, 423, 520]
    assert schedule.boundaries == (33, 163, 391, 716, 1139, 1659) and schedule.max_iter == 1659


def test_the_last_query_takes_the_rest_and_no_round_follows():
    assert plan(total=12, init=2, query=4, num_queries=9).labelled == (2, 6, 10, 12)
    assert plan(total=10, init=2, query=4, num_queries=9).labelled == (2, 6, 10)
    assert plan(total=5, init=5, query=1, num_queries=3).labelled == (5,)
    assert plan(num_queries=0, query=0).labelled == (5,)


def test_min_iters_and_exact_ceiling():
    assert plan(min_iters=1000).iterations(0) == 1000
    # 0.07 * 100 * 3 = 21.000000000000004 in floats; the exact number is 7 * 3 = 21
    assert plan(epochs=0.07, init=100, batch=1, total=100).iterations(0) == 7
    assert plan(epochs=1.1, init=10, batch=11, total=100).iterations(0) == 1
    assert plan(epochs=0, min_iters=0).iterations(0) == 1  # a round that trains nothing could not end


@given(
    total=st.integers(1, 400),
    data=st.data(),
    num_queries=st.integers(0, 8),
    epochs=st.floats(0, 50),
    min_iters=st.integers(0, 300),
    batch=st.integers(1, 16),
)
def test_every_iteration_lies_in_exactly_one_round(total, data, num_queries, epochs, min_iters, batch):
    init, query = data.draw(st.integers(1, total)), data.draw(st.integers(1, total))
    schedule = RoundSchedule.plan(
        total=total,
        init=init,
        query=query,
        num_queries=num_queries,
        epochs=epochs,
        min_iters=min_iters,
        batch=batch,
    )
    assert schedule.labelled[-1] <= total and schedule.num_rounds <= num_queries + 1
    assert schedule.num_rounds == num_queries + 1 or schedule.labelled[-1] == total
    for index, count in enumerate(schedule.labelled):
        first, length = schedule.start(index), schedule.iterations(index)
        exact = Fraction(repr(epochs)) * count / batch
        assert length == max(1, min_iters, -(-exact.numerator // exact.denominator))
        assert schedule.locate(first) == schedule.locate(first + length - 1) == (index, first, length)
        assert schedule.is_boundary(first + length) == index
        assert length == 1 or schedule.is_boundary(first + length - 1) is None
    assert schedule.is_boundary(0) is None
    for outside in (-1, schedule.max_iter):
        with pytest.raises(ValueError):
            schedule.locate(outside)


@pytest.mark.parametrize(
    "changes, key",
    [
        ({"init": 0}, "INIT_TILES"),
        ({"init": 101}, "INIT_TILES"),
        ({"query": 0}, "QUERY_TILES"),
        ({"num_queries": -1}, "NUM_QUERIES"),
        ({"epochs": -1.0}, "EPOCHS"),
        ({"epochs": float("nan")}, "EPOCHS"),
        ({"epochs": float("inf")}, "EPOCHS"),
        ({"batch": 0}, "IMS_PER_BATCH"),
        ({"total": 0}, "TRAIN"),
    ],
)
def test_impossible_plans_name_the_key(changes, key):
    with pytest.raises(ConfigError, match=key):
        plan(**changes)
