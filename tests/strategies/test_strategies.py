"""The contract that every strategy must pass, and the hand-computed vectors of OSAL-ND."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osal_detectron2.core.errors import ConfigError, LedgerError, PoolExhausted
from osal_detectron2.strategies import Pass, QueryContext, Selection, available, check_selection, get_strategy
from osal_detectron2.strategies.prototype_count import count_known
from osal_detectron2.strategies.target_uncertainty import tile_uncertainty


def made_up(key: str, *, empty: float = 0.2) -> dict[str, np.ndarray]:
    """Detections of a tile, a function of its key alone."""
    rng = np.random.default_rng(abs(hash(("tile", key))) % 2**32)
    n = 0 if rng.random() < empty else int(rng.integers(1, 30))
    return {
        "boxes": rng.random((n, 4)),
        "scores": rng.random(n),
        "classes": rng.integers(0, 2, n),
        "dist_known": rng.random(n) * 10,
        "dist_unknown": rng.random(n) * 10,
        "cls_uncertainty": rng.random(n),
        "loc_tightness": rng.random(n),
    }


def answer(strategy, context, tables=made_up, requests=None) -> Selection:
    """Play the engine: only the fields asked for come back."""
    dialogue = strategy.select(context)
    reply = None
    while True:
        try:
            request = dialogue.send(reply)
        except StopIteration as stop:
            return stop.value
        assert isinstance(request, Pass)
        assert set(request.fields) <= set(strategy.needs[request.detector])
        if requests is not None:
            requests.append(request)
        columns = ("boxes", "scores", "classes", *request.fields)
        reply = {k: {c: tables(k)[c] for c in columns} for k in request.over}


def pool(n):
    return tuple(f"tile_{i:03d}.png" for i in range(n))


@pytest.mark.parametrize("name", available())
class TestContract:
    @settings(max_examples=25, deadline=None)
    @given(n=st.integers(1, 40), budget=st.integers(1, 50), seed=st.integers(0, 5))
    def test_subset_exact_size_no_duplicate(self, name, n, budget, seed):
        context = QueryContext(pool=pool(n), budget=budget, seed=seed, round=1)
        selection = check_selection(answer(get_strategy(name)(), context), context)
        assert len(selection.selected) == min(n, budget)
        assert set(selection.reasons) >= set(selection.selected)
        for column in selection.scores.values():
            assert set(column) <= set(context.pool)

    def test_independent_of_the_order_of_the_pool(self, name):
        forward = QueryContext(pool=pool(30), budget=7, seed=0, round=2)
        backward = QueryContext(pool=pool(30)[::-1], budget=7, seed=0, round=2)
        assert (
            answer(get_strategy(name)(), forward).selected == answer(get_strategy(name)(), backward).selected
        )

    def test_float_noise_changes_nothing(self, name):
        def noisy(key):
            rows = made_up(key)
            floats = ("cls_uncertainty", "loc_tightness")
            return {c: v * (1 + 1e-7) if c in floats else v for c, v in rows.items()}

        context = QueryContext(pool=pool(30), budget=7, seed=0, round=2)
        assert (
            answer(get_strategy(name)(), context).selected
            == answer(get_strategy(name)(), context, noisy).selected
        )

    def test_ties_follow_the_seed_and_the_round(self, name):
        def equal(key):
            return made_up("one", empty=0)

        picks = {
            answer(
                get_strategy(name)(), QueryContext(pool=pool(40), budget=5, seed=s, round=r), equal
            ).selected
            for s, r in ((0, 0), (0, 0), (1, 0), (0, 1))
        }
        assert len(picks) == 3

    def test_a_pool_without_any_detection(self, name):
        def nothing(key):
            return {c: v[:0] for c, v in made_up("one", empty=0).items()}

        context = QueryContext(pool=pool(9), budget=4, seed=0, round=0)
        assert len(answer(get_strategy(name)(), context, nothing).selected) == 4

    def test_an_exhausted_pool_is_a_typed_error(self, name):
        with pytest.raises(PoolExhausted):
            answer(get_strategy(name)(), QueryContext(pool=(), budget=4, seed=0, round=3))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="count_all"):
        get_strategy("best")


def test_the_contract_is_enforced():
    context = QueryContext(pool=pool(5), budget=2, seed=0, round=0)
    for wrong in (pool(1), pool(3), ("x", "y"), (pool(1)[0],) * 2):
        with pytest.raises(LedgerError, match="exactly 2"):
            check_selection(Selection(selected=wrong), context)


# ---- vectors -----------------------------------------------------------------------------------------------
def test_li_vector_of_the_specification():
    """methods section 8: tightness 0.8 and 1/7 give LI 0.5285714."""
    rows = {
        "scores": np.ones(2),
        "cls_uncertainty": np.array([6 / 11, 1.0]),
        "loc_tightness": np.array([0.8, 1 / 7]),
    }
    ci, li = tile_uncertainty(rows, score_thresh=0.05)
    assert li == pytest.approx(0.5285714, abs=1e-7)
    assert ci == pytest.approx((6 / 11 + 1) / 2)


def test_low_scores_take_no_part_and_no_detection_gives_zero():
    rows = {
        "scores": np.array([0.9, 0.01]),
        "cls_uncertainty": np.array([0.2, 1]),
        "loc_tightness": np.array([0.7, 0]),
    }
    assert tile_uncertainty(rows, score_thresh=0.05) == pytest.approx((0.2, 0.3))
    assert tile_uncertainty(rows, score_thresh=0.95) == (0.0, 0.0)


def test_counting_rules():
    rows = {
        "dist_known": np.array([1.0, 5.0, 2.0, 3.0]),
        "dist_unknown": np.array([4.0, 2.0, 2.0, 9.0]),
        "classes": np.array([0, 0, 0, 1]),
    }
    assert count_known(rows, rule="proto") == (2, pytest.approx((3 - 3 + 0 + 6) / 4))
    assert count_known(rows, rule="label")[0] == 3
    assert count_known(rows, rule="both")[0] == 1


def test_without_an_unknown_prototype_everything_counts():
    rows = {
        "dist_known": np.array([1.0, 50.0]),
        "dist_unknown": np.full(2, np.inf),
        "classes": np.array([0, 1]),
    }
    assert count_known(rows) == (2, 0.0)


@given(order=st.permutations(range(12)))
def test_the_count_does_not_depend_on_the_order_of_boxes(order):
    rows = {c: v[:12] for c, v in made_up("full", empty=0).items()}
    shuffled = {c: v[np.array([i for i in order if i < len(v)], dtype=int)] for c, v in rows.items()}
    assert count_known(rows) == pytest.approx(count_known(shuffled))


def by_hand(counts, ci, li):
    """Tiles with so many known nuclei, and one target detection of that CI and LI."""

    def table(key):
        i = int(key)
        n = counts[i]
        return {
            "boxes": np.zeros((n, 4)),
            "scores": np.ones(n),
            "classes": np.zeros(n, int),
            "dist_known": np.zeros(n),
            "dist_unknown": np.ones(n),
            "cls_uncertainty": np.full(n, ci[i]),
            "loc_tightness": np.full(n, 1 - li[i]),
        }

    return table


@pytest.mark.parametrize(
    ("name", "expected", "passes"),
    [
        # Known counts 9, 8, 7, 6, 1: the candidates of a budget of 2 are tiles 0 to 3.
        ("osal_nd", ("2", "1"), [("auxiliary", 5), ("target", 4)]),  # CI*LI .09 .20 .24 .08 (.81)
        ("osal_nd_wo_ci", ("0", "2"), [("auxiliary", 5), ("target", 4)]),  # LI .9 .4 .6 .2
        ("osal_nd_wo_li", ("1", "2"), [("auxiliary", 5), ("target", 4)]),  # CI .1 .5 .4 .4, tie broken below
        ("utss", ("4", "2"), [("target", 5)]),
        ("pcss", ("0", "1"), [("auxiliary", 5)]),
        ("count_all", ("0", "1"), [("auxiliary", 5)]),
        ("random", None, []),
    ],
)
def test_the_stages_on_a_pool_worked_out_by_hand(name, expected, passes):
    """Also the cost table of methods section 4: which detector sees how many tiles."""
    table = by_hand([9, 8, 7, 6, 1], ci=[0.1, 0.5, 0.41, 0.4, 0.9], li=[0.9, 0.4, 0.6, 0.2, 0.9])
    requests = []
    context = QueryContext(pool=tuple("01234"), budget=2, seed=0, round=0)
    selection = answer(get_strategy(name)(), context, table, requests)
    if expected:
        assert selection.selected == expected
    assert [(r.detector, len(r.over)) for r in requests] == passes


def test_a_small_candidate_factor_cannot_starve_the_query():
    table = by_hand([3] * 6, ci=[0.5] * 6, li=[0.5] * 6)
    context = QueryContext(pool=tuple("012345"), budget=4, seed=0, round=0)
    assert len(answer(get_strategy("osal_nd")(candidate_factor=0.1), context, table).selected) == 4
