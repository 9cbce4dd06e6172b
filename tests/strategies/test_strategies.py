"""The contract that every strategy must pass, and the hand-computed vectors of OSAL-ND."""

import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import play

from osal_detectron2.core.errors import ConfigError, LedgerError, PoolExhausted
from osal_detectron2.strategies import Pass, QueryContext, Selection, available, check_selection, get_strategy
from osal_detectron2.strategies.prototype_count import count_known
from osal_detectron2.strategies.tile_means import localization_uncertainty, mean_vacuity

KNOWN = ("a", "b", "c")
DETECTION_COLUMNS = (
    "boxes", "scores", "classes", "logits", "roi_feature", "dist_known", "dist_unknown", "cls_uncertainty",
    "loc_tightness", "unknown_score",
)  # fmt: skip


def made_up(key: str, *, empty: float = 0.2) -> dict[str, np.ndarray]:
    """All that a tile can be asked for, a function of its key alone; "gt_..." are the columns of "ground_truth"."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    n = 0 if rng.random() < empty else int(rng.integers(1, 30))
    annotated = int(rng.integers(0, 20))
    logits = rng.normal(0, 2, (n, len(KNOWN) + 1))
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    corners = rng.uniform(0, 200, (n, 2))
    return {
        "boxes": np.concatenate([corners, corners + rng.uniform(10, 50, (n, 2))], axis=1),
        "scores": posterior[:, :-1].max(axis=1),
        "classes": posterior[:, :-1].argmax(axis=1),
        "logits": logits,
        "roi_feature": rng.normal(size=(n, 16)),
        "dist_known": rng.random(n) * 10,
        "dist_unknown": rng.random(n) * 10,
        "cls_uncertainty": rng.random(n),
        "loc_tightness": rng.random(n),
        "image_feature": rng.normal(size=8),
        "predicted_loss": rng.normal(size=1),
        "gt_roi_feature": rng.normal(size=(annotated, 16)),
        "gt_classes": rng.integers(0, len(KNOWN) + 1, annotated),
        "unknown_score": rng.random(n) * posterior[:, -1],
    }


def seen_in_view(row: dict[str, np.ndarray], view: str) -> dict[str, np.ndarray]:
    """Detections of a transformed tile: one in ten is lost, the others differ a little. No geometry."""
    rng = np.random.default_rng(zlib.crc32(view.encode()))
    kept = rng.random(len(row["scores"])) > 0.1
    row = {c: v[kept] if c in DETECTION_COLUMNS else v for c, v in row.items()}
    for column in {"boxes", "logits", "roi_feature"} & row.keys():
        row[column] = row[column] + rng.normal(0, 0.3, row[column].shape)
    return row


def reply_to(request: Pass, tables) -> dict[str, dict[str, np.ndarray]]:
    """The table of one request: the columns of its source, and only the fields asked for."""
    if request.source == "ground_truth":
        return {
            k: {"roi_feature": tables(k)["gt_roi_feature"], "classes": tables(k)["gt_classes"]}
            for k in request.over
        }
    if request.source != "detections":
        column = {"image": "image_feature", "loss": "predicted_loss"}[request.source]
        return {k: {column: tables(k)[column]} for k in request.over}
    columns = ("boxes", "scores", "classes", *request.fields)
    reply = {k: {c: tables(k)[c] for c in columns} for k in request.over}
    if request.view != "identity":
        reply = {k: seen_in_view(row, request.view) for k, row in reply.items()}
    if request.reference is not None:
        reply = {k: {**row, "reference": request.reference[k]} for k, row in reply.items()}
    return reply


def answer(strategy, context, tables=made_up, requests=None) -> Selection:
    """Play the engine, and hold the strategy to what it may ask for."""

    def reply(request):
        assert isinstance(request, Pass)
        assert request.detector == "target" or request.detector in strategy.needs, "would not be trained"
        if request.source == "detections":
            assert set(request.fields) <= set(strategy.needs.get(request.detector, ()))
        elsewhere = set(request.over) - set(context.labelled)
        assert elsewhere <= (set() if request.source == "ground_truth" else set(context.pool))
        return reply_to(request, tables)

    return play(strategy, context, reply, requests)


def pool(n):
    return tuple(f"tile_{i:03d}.png" for i in range(n))


def ask(keys, *, budget, seed=0, round_index=1) -> QueryContext:
    """The context of a query with eight labelled tiles, of which the last has no nuclei."""
    counts = [{"a": 3, "b": i % 3, "c": 1, "u": i} for i in range(7)] + [{}]
    labelled = {f"labelled_{i}.png": c for i, c in enumerate(counts)}
    return QueryContext(
        pool=keys, budget=budget, seed=seed, round_index=round_index, labelled=labelled, known_classes=KNOWN
    )


@pytest.mark.parametrize("name", available())
class TestContract:
    @settings(max_examples=25, deadline=None)
    @given(n=st.integers(1, 40), budget=st.integers(1, 50), seed=st.integers(0, 5))
    def test_subset_exact_size_no_duplicate(self, name, n, budget, seed):
        context = ask(pool(n), budget=budget, seed=seed)
        selection = check_selection(answer(get_strategy(name)(), context), context)
        assert len(selection.selected) == min(n, budget)
        assert set(selection.reasons) >= set(selection.selected)
        for column in selection.scores.values():
            assert set(column) <= set(context.pool)

    def test_independent_of_the_order_of_the_pool(self, name):
        forward = ask(pool(30), budget=7)
        backward = dataclasses.replace(
            forward, pool=forward.pool[::-1], labelled=dict(reversed(forward.labelled.items()))
        )
        assert (
            answer(get_strategy(name)(), forward).selected == answer(get_strategy(name)(), backward).selected
        )

    def test_float_noise_changes_nothing(self, name):
        def noisy(key):
            rng = np.random.default_rng(zlib.crc32(key.encode()) + 1)
            return {
                c: v * (1 + 1e-7 * rng.uniform(-1, 1, v.shape)) if v.dtype.kind == "f" else v
                for c, v in made_up(key).items()
            }

        context = ask(pool(30), budget=7)
        assert (
            answer(get_strategy(name)(), context).selected
            == answer(get_strategy(name)(), context, noisy).selected
        )

    def test_ties_follow_the_seed_and_the_round(self, name):
        def equal(key):
            return made_up("one", empty=0)

        picks = {
            answer(get_strategy(name)(), ask(pool(40), budget=5, seed=s, round_index=r), equal).selected
            for s, r in ((0, 0), (0, 0), (1, 0), (0, 1))
        }
        assert len(picks) == 3

    def test_a_pool_without_any_detection(self, name):
        def nothing(key):
            return {c: v[:0] if c in DETECTION_COLUMNS else v for c, v in made_up(key, empty=0).items()}

        context = ask(pool(9), budget=4)
        assert len(answer(get_strategy(name)(), context, nothing).selected) == 4

    def test_an_exhausted_pool_is_a_typed_error(self, name):
        with pytest.raises(PoolExhausted):
            answer(get_strategy(name)(), ask((), budget=4))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="count_all"):
        get_strategy("best")


def test_the_contract_is_enforced():
    context = QueryContext(pool=pool(5), budget=2, seed=0, round_index=0)
    for wrong in (pool(1), pool(3), ("x", "y"), (pool(1)[0],) * 2):
        with pytest.raises(LedgerError, match="exactly 2"):
            check_selection(Selection(selected=wrong), context)


# ---- vectors -----------------------------------------------------------------------------------------------
def test_li_vector_of_the_specification():
    """docs/reproducibility.md 8: tightness 0.8 and 1/7 give LI 0.5285714."""
    rows = {
        "scores": np.ones(2),
        "cls_uncertainty": np.array([6 / 11, 1.0]),
        "loc_tightness": np.array([0.8, 1 / 7]),
    }
    assert localization_uncertainty(rows, score_thresh=0.05) == pytest.approx(0.5285714, abs=1e-7)
    assert mean_vacuity(rows, score_thresh=0.05) == pytest.approx((6 / 11 + 1) / 2)


def test_low_scores_take_no_part_and_no_detection_gives_zero():
    rows = {
        "scores": np.array([0.9, 0.01]),
        "cls_uncertainty": np.array([0.2, 1]),
        "loc_tightness": np.array([0.7, 0]),
    }
    for mean, value in ((mean_vacuity, 0.2), (localization_uncertainty, 0.3)):
        assert mean(rows, score_thresh=0.05) == pytest.approx(value)
        assert mean(rows, score_thresh=0.95) == 0.0


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
    rows = {c: v[:12] for c, v in made_up("full", empty=0).items() if c in DETECTION_COLUMNS}
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
    """Also the cost table of docs/reproducibility.md 4: which detector sees how many tiles."""
    table = by_hand([9, 8, 7, 6, 1], ci=[0.1, 0.5, 0.41, 0.4, 0.9], li=[0.9, 0.4, 0.6, 0.2, 0.9])
    requests = []
    context = QueryContext(pool=tuple("01234"), budget=2, seed=0, round_index=0)
    selection = answer(get_strategy(name)(), context, table, requests)
    if expected:
        assert selection.selected == expected
    assert [(r.detector, len(r.over)) for r in requests] == passes


def test_a_small_candidate_factor_cannot_starve_the_query():
    table = by_hand([3] * 6, ci=[0.5] * 6, li=[0.5] * 6)
    context = QueryContext(pool=tuple("012345"), budget=4, seed=0, round_index=0)
    assert len(answer(get_strategy("osal_nd")(cand_factor=0.1), context, table).selected) == 4
