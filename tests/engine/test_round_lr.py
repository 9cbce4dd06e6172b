"""The learning rate is a function of the iteration and restarts with each round."""

import pytest

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.core.schedule import RoundSchedule
from osal_detectron2.engine.round_lr import RoundLR

PLAN = RoundSchedule(labelled=(5, 10), boundaries=(100, 300))


def test_steps_at_fractions_of_each_round():
    lr = RoundLR(PLAN, steps=(0.7, 0.9), gamma=0.1)
    expected = {0: 1, 69: 1, 70: 0.1, 89: 0.1, 90: 0.01, 99: 0.01, 100: 1, 239: 1, 240: 0.1, 280: 0.01}
    for iteration, value in expected.items():
        assert lr.at(iteration) == pytest.approx(value)


def test_warm_up_is_a_fifth_of_a_round_at_most():
    lr = RoundLR(PLAN, warmup_iters=1000, warmup_factor=0.0)
    assert [lr.at(i) for i in (0, 10, 20)] == pytest.approx([0, 0.5, 1])
    assert [lr.at(i) for i in (100, 120, 140)] == pytest.approx([0, 0.5, 1])


def test_cosine_starts_at_one_and_ends_near_zero_in_each_round():
    lr = RoundLR(PLAN, shape="cosine")
    assert lr.at(0) == lr.at(100) == 1
    assert lr.at(50) == pytest.approx(0.5) and lr.at(200) == pytest.approx(0.5)
    assert lr.at(99) < 0.001 and lr.at(299) < 0.001


def test_where_hits_every_iteration_exactly():
    """Detectron2 passes iteration / max_iter, a float."""
    plan = RoundSchedule(labelled=(1, 2, 3), boundaries=(7, 1000, 9973))
    lr = RoundLR(plan, shape="cosine")
    assert all(lr(i / plan.max_iter) == lr.at(i) for i in range(plan.max_iter))


def test_wrong_settings_name_their_key():
    with pytest.raises(ConfigError, match="OSAL.SCHEDULE.LR:"):
        RoundLR(PLAN, shape="linear")
    with pytest.raises(ConfigError, match="LR_STEPS"):
        RoundLR(PLAN, steps=(0.9, 0.7))
