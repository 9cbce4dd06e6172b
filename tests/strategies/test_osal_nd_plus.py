"""OSAL-ND+: hand-computed parts, and what each switch changes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import play
from test_strategies import answer, pool

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext, get_strategy
from osal_detectron2.strategies.osal_nd_plus import OSALNDPlus, by_class, greedy_batch, looks_known

SURE, TORN = (9.0, -9.0, -9.0), (0.0, 0.0, 0.0)  # known, unknown, background


def tile(*, logits, auxiliary=SURE, feature=0.0):
    n = len(logits)
    boxes = np.array([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(n)]).reshape(n, 4)
    return {
        "boxes": boxes, "scores": np.ones(n), "classes": np.zeros(n, int), "logits": np.array(logits).reshape(n, 3),
        "cls_uncertainty": np.ones(n), "loc_tightness": np.zeros(n), "image_feature": np.array([feature, 0.0]),
        "auxiliary": np.tile(auxiliary, (n, 1)),
    }  # fmt: skip


def select(strategy, tiles, *, budget, labelled=None):
    """Two known classes, "a" and "b"; other logits for the auxiliary detector. labelled: key -> nuclei."""
    labelled = labelled or {}
    context = QueryContext(pool=tuple(k for k in tiles if k not in labelled), budget=budget, seed=0, round=1,
                           labelled=labelled, known_classes=("a", "b"))  # fmt: skip

    def reply(request):
        logits = "auxiliary" if request.detector == "auxiliary" else "logits"
        return {k: {**tiles[k], "logits": tiles[k][logits]} for k in request.over}

    return play(strategy, context, reply)


def alone(**parts):
    """The strategy with the named parts alone."""
    return OSALNDPlus(**{"purity": False, "balance": False, "diversity": False, **parts})


def test_information_adds_up_over_nuclei_and_is_normalised():
    tiles = {"one": tile(logits=[TORN]), "three": tile(logits=[TORN] * 3), "sure": tile(logits=[SURE] * 9)}
    selection = select(alone(information="entropy"), tiles, budget=3)
    assert selection.selected == ("three", "one", "sure")
    assert selection.scores["expected_known"]["three"] == pytest.approx(3.0, abs=1e-4)
    assert selection.scores["expected_known"]["one"] == pytest.approx(1.0, abs=1e-4)
    assert select(alone(), tiles, budget=1).scores["expected_known"]["sure"] == pytest.approx(9.0)


def test_evidence_is_the_product_of_equations_4_and_6_for_each_box():
    rows = {
        **tile(logits=[TORN, TORN]),
        "cls_uncertainty": np.array([0.5, 0.2]),
        "loc_tightness": np.array([0.8, 0.5]),
    }
    selection = select(alone(information="evidence"), {"x": rows}, budget=1)
    assert selection.scores["expected_known"]["x"] == pytest.approx(0.5 * 0.2 + 0.2 * 0.5)


def test_a_nucleus_is_divided_among_the_classes_and_the_background_gets_nothing():
    logits = np.log([[0.6, 0.2, 0.2], [0.1, 0.4, 0.5]])
    assert by_class(np.array([1.0, 0.5]), logits) == pytest.approx([0.75 + 0.1, 0.25 + 0.4])


def test_balance_prefers_the_class_with_few_labels_and_saturates():
    expected = np.array([[10.0, 0.0], [0.0, 4.0], [9.0, 0.0]])
    # log(1 + 10/100), log(1 + 4/5); then, with 9 of the second class: log(1 + 4/9) for such a tile.
    rows, gains = greedy_batch(expected, [99, 4], None, (), size=3)
    assert rows == [1, 0, 2] and gains[0] == 1.0
    assert greedy_batch(expected, None, None, (), size=3)[0] == [0, 2, 1]
    twins = np.array([[0.0, 4.0], [0.0, 4.0], [60.0, 0.0]])
    assert greedy_batch(twins, [99, 4], None, (), size=2)[0] == [0, 2]  # .59 then .47 against .37
    tiles = {
        "much_a": tile(logits=[SURE] * 5),
        "some_b": tile(logits=[(-9.0, 9.0, -9.0)] * 2),
        "old": tile(logits=[]),
    }
    labelled = {"old": {"a": 50, "b": 2, "unknown": 900}}
    assert select(alone(balance=True), tiles, budget=1, labelled=labelled).selected == ("some_b",)
    assert select(alone(), tiles, budget=1, labelled=labelled).selected == ("much_a",)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_greedy_batch_is_within_1_minus_1_over_e_of_the_best(seed, tiles):
    rng = np.random.default_rng(seed)
    expected, have = rng.gamma(0.5, 10, (tiles, 3)), rng.integers(0, 50, 3)
    size = min(3, tiles)

    def value(rows):
        return np.log1p(expected[list(rows)].sum(axis=0) / (1.0 + have)).sum()

    best = max(value(rows) for rows in itertools.combinations(range(tiles), size))
    assert value(greedy_batch(expected, have, None, (), size=size)[0]) >= (1 - 1 / np.e) * best - 1e-4


def test_purity_discounts_nuclei_that_look_unknown():
    unknown = (-9.0, 9.0, -9.0)
    tiles = {"unknown": tile(logits=[TORN] * 5, auxiliary=unknown), "known": tile(logits=[TORN])}
    assert select(alone(purity=True), tiles, budget=1).selected == ("known",)
    assert select(alone(), tiles, budget=1).selected == ("unknown",)


def test_diversity_passes_over_a_duplicate():
    tiles = {
        "labelled": tile(logits=[], feature=0.0),
        "best": tile(logits=[TORN] * 5, feature=10.0),
        "its_copy": tile(logits=[TORN] * 5, feature=10.0),
        "other": tile(logits=[TORN] * 2, feature=-8.0),
        "copy_of_labelled": tile(logits=[TORN] * 9, feature=0.0),
    }
    selection = select(alone(diversity=True), tiles, budget=2, labelled={"labelled": {}})
    assert set(selection.selected) in ({"best", "other"}, {"its_copy", "other"})
    without = select(alone(), tiles, budget=2, labelled={"labelled": {}}).selected
    assert without[0] == "copy_of_labelled"


def test_looks_known_takes_the_overlapping_auxiliary_box():
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]])
    auxiliary = {"boxes": np.array([[0, 0, 10, 9], [100, 0, 110, 10.0]]), "logits": np.zeros((2, 3))}
    assert looks_known(boxes, auxiliary) == pytest.approx([1 / 3, 0.0])


def test_an_unknown_information_names_the_key():
    with pytest.raises(ConfigError, match="OSAL.PLUS.INFORMATION"):
        get_strategy("osal_nd_plus")(information="magic")


def test_it_is_in_the_contract_with_every_switch():
    context = QueryContext(pool=pool(20), budget=5, seed=0, round=1, known_classes=("a", "b", "c"))
    for parts in ({"purity": False}, {"balance": False}, {"diversity": False}, {"information": "entropy"}):
        assert len(answer(OSALNDPlus(**parts), context).selected) == 5
