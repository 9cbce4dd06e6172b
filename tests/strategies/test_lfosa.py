"""LfOSA: the mixture by hand, and the pool of a few tiles worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import play

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext, get_strategy
from osal_detectron2.strategies.lfosa import activations, known_weights, larger_component

BUMPS = np.array([-1.0, 0.0, 1.0, 9.0, 10.0, 11.0] * 5)


def test_the_class_is_the_largest_foreground_logit_and_never_the_background():
    classes, values = activations(np.array([[1.0, 3.0, 2.0, 50.0], [0.0, -1.0, 4.0, 3.0]]))
    assert classes.tolist() == [1, 2] and values.tolist() == [3.0, 4.0]
    classes, values = activations(np.zeros((0, 4)))
    assert classes.shape == values.shape == (0,)


def test_posterior_of_two_bumps_by_hand():
    """Equal weights and variances 2/3 + 5e-4, means 0 and 10: the log-odds of x are 10 (x - 5) / variance."""
    values = np.array([0.0, 4.9, 5.0, 5.1, 10.0])
    odds = 10 * (values - 5) / (2 / 3 + 5e-4)
    expected = [1 / (1 + math.exp(-o)) for o in odds]
    assert larger_component(BUMPS, values, seed=0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fitted", [[], [3.0], [3.0, 3.0, 3.0], [3.0] * 20 + [3.0 + 1e-8]])
def test_components_that_cannot_be_told_apart_decide_nothing(fitted):
    assert larger_component(np.array(fitted), np.array([0.0, 3.0]), seed=0).tolist() == [0.5, 0.5]


def test_unknown_boxes_weigh_nothing_and_rare_classes_use_all_known_boxes():
    """Class 1 has three equal boxes: alone 0.5 each, beside class 0 they are clearly in the upper bump.

    The unknown boxes at 100 must not take part: they would pull the upper component away.
    """
    classes = np.array([0] * 30 + [1] * 3 + [2] * 30)
    values = np.concatenate([BUMPS, np.full(3, 10.0), np.full(30, 100.0)])
    weights = known_weights(classes, values, unknown=2, seed=1)
    assert weights[:30] == pytest.approx((BUMPS > 5).astype(float), abs=1e-6)
    assert weights[30:33] == pytest.approx(1.0, abs=1e-6)
    assert not weights[33:].any()
    enough = known_weights(
        np.array([0] * 30 + [1] * 10), np.append(BUMPS, np.full(10, 10.0)), unknown=2, seed=1
    )
    assert enough[30:].tolist() == [0.5] * 10


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(60)))
def test_the_order_of_boxes_is_of_no_importance(order):
    rng = np.random.default_rng(0)
    classes, values = rng.integers(0, 3, 60), rng.normal(size=60) * 3
    weights = known_weights(classes, values, unknown=2, seed=5)
    assert ((weights > 0) == (classes < 2)).all() and len(np.unique(weights)) > 20
    assert np.array_equal(known_weights(classes[order], values[order], unknown=2, seed=5), weights[order])


# One known class; a tile is (activations of known boxes, number of unknown boxes, tightness in the target).
TILES = {
    "pure": ([10.0, 10.2, 9.8, 10.1, 9.9], 0, 0.5),
    "half": ([10.0, 10.1, 9.9, 10.2, 9.8, 10.0], 6, 0.5),
    "stray": ([0.0, 0.2, -0.2, 0.1, -0.1], 0, 0.1),
    "tight": ([10.0, 10.1], 0, 0.9),
    "unknown": ([], 9, 0.0),
    "empty": ([], 0, 0.0),
}


def select(strategy, requests, budget=2):
    context = QueryContext(pool=tuple(TILES), budget=budget, seed=0, round_index=0, known_classes=("a",))

    def row(detector, known, unknown, tightness):
        n = len(known) + unknown
        if detector == "target":
            return {"scores": np.ones(n), "loc_tightness": np.full(n, tightness)}
        logits = np.array([[v, -5.0, 0.0] for v in known] + [[-5.0, 99.0, 0.0]] * unknown)
        return {"scores": np.ones(n), "logits": logits.reshape(n, 3)}

    def reply(request):
        requests.append((request.detector, len(request.over)))
        return {key: row(request.detector, *TILES[key]) for key in request.over}

    return play(strategy, context, reply)


def test_a_pool_by_hand():
    """Weights 1, 0.5, 0, 1, 0, 0 times LI 0.5, 0.5, 0.9, 0.1, 1, 0; as a sum 5, 6, 0, 2, 0, 0."""
    requests = []
    by_mean = select(get_strategy("lfosa")(), requests, budget=3)
    assert by_mean.selected == ("pure", "half", "tight")
    assert [by_mean.scores["score"][k] for k in TILES] == pytest.approx([0.5, 0.25, 0, 0.1, 0, 0], abs=1e-4)
    assert requests == [("auxiliary", 6), ("target", 6)]
    assert "5 nuclei, known-ness 1.000, box uncertainty 0.500" in by_mean.reasons["pure"]
    by_sum = select(get_strategy("lfosa")(agg="sum"), requests)
    assert by_sum.selected == ("half", "pure")
    assert by_sum.scores["known"]["half"] == pytest.approx(6, abs=1e-3)


def test_without_li_known_ness_decides_alone():
    selection = select(get_strategy("lfosa")(use_li=False), [], budget=3)
    assert set(selection.selected[:2]) == {"pure", "tight"} and selection.selected[2] == "half"
    assert selection.scores["score"] == selection.scores["known"]


def test_an_unknown_aggregation_is_named():
    with pytest.raises(ConfigError, match="OSAL.LFOSA.AGG.*median.*mean, sum"):
        get_strategy("lfosa")(agg="median")
