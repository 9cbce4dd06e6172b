"""CALD: the vectors of docs/reproducibility.md 8, both stages on pools worked out by hand, and its invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import play

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext
from osal_detectron2.strategies.box_match import best_match
from osal_detectron2.strategies.cald import (
    CALD,
    agreement,
    best_scores,
    consistency,
    divergence,
    spread,
)
from osal_detectron2.strategies.posteriors import confidence, softmax

P, Q = np.array([0.7, 0.2, 0.05, 0.05]), np.array([0.4, 0.4, 0.1, 0.1])
VIEWS = ("hflip", "cutout:2,0.05,0.2,0.1,0.4", "downscale:0.8", "rotate:5")


def tile(boxes, posterior):
    """Detections with these posteriors (B, K + 1)."""
    posterior = np.asarray(posterior, dtype=float).reshape(-1, 3)
    return {
        "boxes": np.asarray(boxes, dtype=float).reshape(-1, 4),
        "scores": posterior[:, :-1].max(axis=1, initial=0),
        "classes": posterior[:, :-1].argmax(axis=1),
        "logits": np.log(posterior),
    }


def run(strategy, tables, *, budget=1, labelled=(), seed=0, requests=None, order=None, shift=0.0, **more):
    """`tables`: view -> key -> row; a view that is not there answers like "identity". Views move all by `shift`."""
    context = QueryContext(
        pool=tuple(order or tables["identity"]),
        budget=budget,
        seed=seed,
        round_index=0,
        labelled={f"labelled_{i}": counts for i, counts in enumerate(labelled)},
        known_classes=("a", "b"),
        **more,
    )

    def reply(request):
        rows = tables.get(request.view, tables["identity"])
        reply = {
            k: {c: rows[k][c] for c in ("boxes", "scores", "classes", *request.fields)} for k in request.over
        }
        if request.reference is None:
            return reply
        return {
            k: {**row, "boxes": row["boxes"] + shift, "reference": request.reference[k] + shift}
            for k, row in reply.items()
        }

    return play(strategy, context, reply, requests)


# ---- vectors -----------------------------------------------------------------------------------------------
def test_the_vector_of_the_specification():
    assert divergence(P, Q) == pytest.approx(0.0462008, abs=1e-7)
    m = agreement(np.array([0.8]), P[None], Q[None])
    assert m == pytest.approx(1.3245895, abs=1e-7)
    assert consistency(m, beta=1.3) == pytest.approx(0.0245895, abs=1e-7)


def test_perfect_agreement_with_confidence_one():
    sure = np.array([[1.0, 0.0, 0.0]])
    m = agreement(np.ones(1), sure, sure)
    assert m == pytest.approx(2)
    assert consistency(m, beta=1.3) == pytest.approx(0.7)


def test_the_vector_through_the_strategy():
    """IoU 0.8 in each of four views."""
    clean = {"x": {**tile([[0, 0, 10, 10]], [[0.7, 0.2, 0.1]]), "logits": np.log(P)[None]}}
    moved = {"x": {**tile([[0, 0, 10, 8]], [[0.4, 0.4, 0.2]]), "logits": np.log(Q)[None]}}
    scores = run(CALD(), {"identity": clean, **dict.fromkeys(VIEWS, moved)}).scores
    assert scores["consistency"]["x"] == pytest.approx(0.0245895, abs=1e-7)
    # Agreement 1 + 0.7 in the three views that change nothing.
    scores = run(CALD(), {"identity": clean, "hflip": moved}).scores
    assert scores["consistency"]["x"] == pytest.approx((0.0245895 + 3 * 0.4) / 4, abs=1e-7)


def test_consistency_is_that_of_the_worst_box_and_at_most_one():
    assert consistency(np.array([2.0, 1.1, 0.1]), beta=1.3) == pytest.approx(0.2)
    assert consistency(np.array([0.0, 0.1]), beta=1.3) == 1.0


def test_divergence_of_disjoint_and_of_equal_distributions():
    assert divergence([1, 0, 0], [0, 0.5, 0.5]) == pytest.approx(np.log(2))
    assert divergence(P, P) == 0


def test_references_are_spread_evenly_over_the_scores():
    scores = np.random.default_rng(0).permutation(101) / 101
    rows = spread(scores, 5)
    assert (scores[rows] * 101).round().tolist() == [100, 75, 50, 25, 0]
    # Up to the limit itself all of them, each once.
    assert sorted(spread(scores[:50], 50)) == list(range(50))
    assert len(set(spread(scores[:51], 50))) == 50


def test_best_score_of_each_class():
    assert best_scores(np.array([1, 1, 0]), np.array([0.3, 0.8, 0.2]), 3).tolist() == [0.2, 0.8, 0.0]
    assert best_scores(np.zeros(0), np.zeros(0), 2).tolist() == [0.0, 0.0]


# ---- properties --------------------------------------------------------------------------------------------
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_an_identity_view_gives_one_plus_pmax(seed, n):
    """docs/reproducibility.md 8."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 90, (n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (n, 2))], axis=1)
    posterior = rng.dirichlet(np.ones(4), n)
    rows, iou = best_match(boxes, boxes)
    assert agreement(iou, posterior, posterior[rows]) == pytest.approx(1 + confidence(posterior))


@given(st.integers(0, 2**32))
def test_agreement_is_symmetric_and_between_0_and_2(seed):
    rng = np.random.default_rng(seed)
    p, q, iou = rng.dirichlet(np.full(4, 0.3), 5), rng.dirichlet(np.full(4, 0.3), 5), rng.random(5)
    m = agreement(iou, p, q)
    assert (m >= 0).all() and (m <= 2).all()
    assert m == pytest.approx(agreement(iou, q, p))
    assert (divergence(p, q) <= np.log(2) + 1e-12).all()


def random_pool(seed, n):
    """A pool whose tiles and their views differ, a third of them without detections here and there."""
    rng = np.random.default_rng(seed)

    def row():
        b = 0 if rng.random() < 0.33 else int(rng.integers(1, 8))
        corners = rng.uniform(0, 50, (b, 2))
        return tile(np.concatenate([corners, corners + 20], axis=1), rng.dirichlet(np.ones(3), b))

    return {view: {f"t{i}": row() for i in range(n)} for view in ("identity", *VIEWS)}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 12), budget=st.integers(1, 14), mutual=st.booleans())
def test_never_over_budget_and_independent_of_the_order(seed, n, budget, mutual):
    tables = random_pool(seed, n)
    labelled = [{"a": 3, "u": 9}, {"b": 1}, {}]
    strategy = CALD(mutual=mutual)
    selection = run(strategy, tables, budget=budget, labelled=labelled)
    assert len(selection.selected) == min(n, budget)
    backwards = run(strategy, tables, budget=budget, labelled=labelled, order=list(tables["identity"])[::-1])
    assert backwards.selected == selection.selected
    assert backwards.scores == selection.scores


# ---- the stages --------------------------------------------------------------------------------------------
BOX = [[0, 0, 10, 10]]


def pool_of(pmax):
    """One detection of class a each; with views that change nothing M = |1 + Pmax - 1.3|."""
    return {k: tile(BOX, [[p, (1 - p) / 2, (1 - p) / 2]]) for k, p in pmax.items()}


def test_five_passes_over_the_pool_with_the_reference_of_the_clean_one():
    """The cost table of docs/reproducibility.md 4; six and seven with noise."""
    requests = []
    clean = pool_of({"x": 0.9, "y": 0.6})
    run(CALD(), {"identity": clean}, requests=requests)
    assert [(r.view, len(r.over)) for r in requests] == [(v, 2) for v in ("identity", *VIEWS)]
    assert requests[0].reference is None
    assert all(np.array_equal(r.reference["x"], BOX) for r in requests[1:])
    requests.clear()
    run(CALD(augs="RSG", rotation=10), {"identity": clean}, requests=requests)
    assert [r.view for r in requests] == ["identity", "rotate:10", "salt_pepper:0.1", "noise:16"]


def test_the_views_of_the_strategy_exist():
    from osal_detectron2.scoring.views import check_view

    for view in CALD(augs="FCDRGS").settings.views:
        check_view(view)


def test_stage_one_keeps_the_least_consistent():
    """M = .6 .2 .5 .4 .3: of a budget of 2 with delta 1.5 the candidates are the three lowest."""
    clean = pool_of({"v": 0.9, "w": 0.5, "x": 0.8, "y": 0.7, "z": 0.6})
    selection = run(CALD(delta=1.5, mutual=False), {"identity": clean}, budget=2)
    assert selection.selected == ("w", "z")
    assert selection.scores["consistency"]["v"] == pytest.approx(0.6)
    selection = run(CALD(delta=1.5), {"identity": clean}, budget=2)
    assert selection.candidates == ("w", "z", "y")


def test_the_default_keeps_a_fifth_more_than_the_budget():
    clean = pool_of({f"t{i}": 0.4 + i / 100 for i in range(20)})
    assert len(run(CALD(), {"identity": clean}, budget=10).candidates) == 12
    assert len(run(CALD(delta=0.5), {"identity": clean}, budget=10).candidates) == 10


def test_stage_two_prefers_the_classes_that_are_not_labelled():
    """Three equally consistent tiles; labelled are nuclei of class a, and many unknown ones that do not count."""
    posterior = {"a": [0.6, 0.2, 0.2], "b": [0.2, 0.6, 0.2], "both": [0.6, 0.2, 0.2]}
    clean = {k: tile(BOX, [p]) for k, p in posterior.items()}
    clean["both"] = tile([*BOX, [50, 50, 60, 60]], [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]])
    mostly_a = [{"a": 2, "u": 50}, {"a": 1, "b": 1, "u": 50}]
    selection = run(CALD(delta=3), {"identity": clean}, labelled=mostly_a)
    assert selection.selected == ("b",)
    mostly_b = [{"b": 2}, {"b": 1, "a": 1}]
    assert run(CALD(delta=3), {"identity": clean}, labelled=mostly_b).selected == ("a",)
    # The mean counts of mostly_a are 1.5 and 0.5; the best scores of tile b are 0 and 0.6.
    expected = divergence(softmax(np.array([1.5, 0.5])), softmax(np.array([0.0, 0.6])))
    assert selection.scores["mutual"]["b"] == pytest.approx(expected)


def test_class_scores_are_means_over_the_tile_and_its_views():
    """Class b appears in one view of four: its score is 0.6 / 5, that of class a 4 * 0.6 / 5."""
    clean = {"x": tile(BOX, [[0.6, 0.2, 0.2]])}
    other = {"x": tile(BOX, [[0.2, 0.6, 0.2]])}
    selection = run(CALD(), {"identity": clean, "hflip": other}, labelled=[{"a": 1}])
    expected = divergence(softmax(np.array([1.0, 0.0])), softmax(np.array([0.48, 0.12])))
    assert selection.scores["mutual"]["x"] == pytest.approx(expected)


def test_tiles_without_detections_come_first_but_not_over_the_budget():
    nothing = {k: tile([], []) for k in ("e0", "e1", "e2")}
    # Labelled is class b, so x and y, of class a, would come first by divergence.
    clean = {**pool_of({"x": 0.5, "y": 0.51}), **nothing}
    selection = run(CALD(), {"identity": clean}, budget=4, labelled=[{"b": 9}])
    assert set(selection.selected[:3]) == set(nothing)
    assert selection.scores["consistency"]["e0"] == 0.0
    assert set(run(CALD(), {"identity": clean}, budget=2).selected) < set(nothing)
    assert selection.reasons[selection.selected[0]] == "rank 1: no nucleus is detected"


def test_a_view_without_detections_counts_as_inconsistent():
    clean = pool_of({"x": 0.9})
    scores = run(CALD(), {"identity": clean, "rotate:5": {"x": tile([], [])}}).scores
    assert scores["consistency"]["x"] == pytest.approx(3 * 0.6 / 4)


def test_boxes_are_compared_where_they_lie_in_the_view():
    clean = pool_of({"x": 0.9})
    scores = run(CALD(), {"identity": clean}, shift=7.0).scores
    assert scores["consistency"]["x"] == pytest.approx(0.6)


def test_low_scores_take_no_part():
    clean = {"x": tile([*BOX, [50, 50, 60, 60]], [[0.9, 0.05, 0.05], [0.3, 0.1, 0.6]])}
    assert run(CALD(), {"identity": clean}).scores["consistency"]["x"] == pytest.approx(0.0, abs=1e-9)
    kept = run(CALD(), {"identity": clean}, score_thresh=0.5).scores["consistency"]["x"]
    assert kept == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"augs": ""}, "AUGS"),
        ({"augs": "FX"}, "AUGS.*FCDRGS"),
        ({"augs": "FF"}, "AUGS"),
        ({"scale": 0}, "SCALE"),
        ({"scale": 1.2}, "SCALE"),
        ({"cut_size": (0.2, 0.05)}, "CUT_SIZE"),
        ({"cut_overlap": (0.2,)}, "CUT_SIZE and CUT_OVERLAP"),
        ({"rotation": 90}, "ROTATION"),
        ({"max_ref": 0}, "MAX_REF"),
    ],
)
def test_values_that_cannot_work_name_their_key(values, key):
    with pytest.raises(ConfigError, match=key):
        CALD(**values)


def test_downsize_before_resize_asks_for_the_view_of_the_authors_code():
    assert CALD(downsize_before_resize=True).settings.views == (*VIEWS[:2], "shrink:0.8", VIEWS[3])
