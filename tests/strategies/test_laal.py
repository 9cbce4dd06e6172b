"""LAAL: the vectors of docs/reproducibility.md 8, and what each mode asks for and prefers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from play import play

from osal_detectron2.core.boxes import pairwise_iou
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext
from osal_detectron2.strategies.box_match import best_match
from osal_detectron2.strategies.laal import LAAL, mean_ranks, stability, tightness_score
from osal_detectron2.strategies.posteriors import confidence, softmax

SIGMAS = (8, 16, 24, 32, 40, 48)


def logits(pmax):
    """Logits (B, 3) of two classes and the background, whose largest foreground posterior is `pmax` (B,) > 0.5."""
    pmax = np.asarray(pmax, dtype=float)
    rest = (1 - pmax) / 2
    return np.log(np.stack([pmax, rest, rest], axis=1))


def tile(boxes, pmax, tightness=None):
    n = len(pmax)
    return {
        "boxes": np.asarray(boxes, dtype=float).reshape(-1, 4),
        "scores": np.asarray(pmax, dtype=float),
        "classes": np.zeros(n, int),
        "logits": logits(pmax) if n else np.zeros((0, 3)),
        "loc_tightness": np.ones(n) if tightness is None else np.asarray(tightness, dtype=float),
    }


def run(strategy, tables, *, budget=1, requests=None, **context):
    """`tables`: view -> key -> row; a view that is not there answers like "identity"."""
    context = QueryContext(pool=tuple(tables["identity"]), budget=budget, seed=0, round_index=0, **context)

    def reply(request):
        if requests is not None:
            requests.append((request.view, len(request.over)))
        rows = tables.get(request.view, tables["identity"])
        return {
            k: {c: rows[k][c] for c in ("boxes", "scores", "classes", *request.fields)} for k in request.over
        }

    return play(strategy, context, reply)


# ---- vectors -----------------------------------------------------------------------------------------------
def test_lt_c_vector_of_the_specification():
    """(T, Pmax) = (0.8, 0.9), (0.95, 0.1), (0.2, 0.85) give 0.7, 0.05 and 0.05."""
    tightness, pmax = np.array([0.8, 0.95, 0.2]), np.array([0.9, 0.1, 0.85])
    each = [tightness_score(tightness[[i]], pmax[[i]]) for i in range(3)]
    assert each == pytest.approx([0.7, 0.05, 0.05])
    assert tightness_score(tightness, pmax) == pytest.approx(0.05)


def test_ls_c_vector_of_the_specification():
    """Pmax (0.9, 0.6) and S_B (0.8, 0.5): S_I 0.68, U_C 0.4, score -0.28; here from boxes and logits.

    Three levels of noise keep a box as it is, three shrink it: the first to 0.6, the second to nothing.
    """
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60]]
    clean = {"x": tile(boxes, [0.9, 0.6])}
    shrunk = {"x": tile([[0, 0, 10, 6], [80, 80, 90, 90]], [0.9, 0.6])}
    tables = {"identity": clean, "noise:8": shrunk, "noise:24": shrunk, "noise:48": shrunk}
    scores = run(LAAL(), tables).scores
    assert scores["stability"]["x"] == pytest.approx(0.68)
    assert scores["class_uncertainty"]["x"] == pytest.approx(0.4)
    assert scores["score"]["x"] == pytest.approx(-0.28)
    halved = run(LAAL(stability_weight=0.5), tables).scores["score"]["x"]
    assert halved == pytest.approx(0.4 - 0.34)


def test_three_in_one_is_the_mean_of_three_ranks():
    """U_C .1 .4 .4, S_I 1 1 .5, LT/C .9 .6 .1: ranks (0 1.5 1.5), (.5 .5 2), (0 1 2)."""
    boxes = [[0, 0, 10, 10]]
    clean = {"a": tile(boxes, [0.9]), "b": tile(boxes, [0.6]), "c": tile(boxes, [0.6], [0.5])}
    noisy = {**clean, "c": tile([[0, 0, 10, 5]], [0.6])}
    scores = run(LAAL(mode="three_in_one", sigmas=[8]), {"identity": clean, "noise:8": noisy}).scores["score"]
    assert scores == pytest.approx({"a": 0.5 / 3, "b": 3 / 3, "c": 5.5 / 3})


def test_mean_ranks_share_ties_and_ignore_float_noise():
    assert mean_ranks([{"a": 1.0, "b": 3.0, "c": 3.0 + 1e-9}]) == {"a": 0.0, "b": 1.5, "c": 1.5}


def test_iou_is_the_plain_formula_of_methods_section_8():
    iou = pairwise_iou([[0, 0, 10, 10]], [[0, 0, 10, 8], [5, 5, 15, 15], [10, 0, 20, 10], [3, 3, 3, 3]])
    assert iou == pytest.approx(np.array([[0.8, 1 / 7, 0, 0]]))
    assert pairwise_iou([[3, 3, 3, 3]], [[3, 3, 3, 3]]) == pytest.approx(0)


def test_the_background_is_no_class_to_be_sure_of():
    posterior = softmax(np.log([[0.2, 0.1, 0.7], [0.5, 0.25, 0.25]]))
    assert confidence(posterior) == pytest.approx([0.2, 0.5])
    assert softmax(np.array([[1e4, 0.0, 0.0]])) == pytest.approx(np.array([[1, 0, 0]]))


# ---- passes ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "views"),
    [
        ("lt_c", ["identity"]),
        ("ls_c", ["identity", *(f"noise:{s}" for s in SIGMAS)]),
        ("three_in_one", ["identity", *(f"noise:{s}" for s in SIGMAS)]),
    ],
)
def test_a_mode_costs_one_pass_or_seven(mode, views):
    """The cost table of docs/reproducibility.md 4."""
    requests = []
    tables = {"identity": {k: tile([[0, 0, 9, 9]], [0.8]) for k in "abc"}}
    run(LAAL(mode=mode), tables, requests=requests)
    assert requests == [(view, 3) for view in views]


# ---- what is preferred -------------------------------------------------------------------------------------
BOX, MOVED = [[0, 0, 10, 10]], [[0, 0, 10, 4]]


def test_unstable_tiles_win_at_equal_class_uncertainty():
    clean = {k: tile(BOX, [0.8]) for k in ("firm", "shaky", "gone")}
    noisy = {"firm": tile(BOX, [0.3]), "shaky": tile(MOVED, [0.8]), "gone": tile([], [])}
    selection = run(LAAL(sigmas=[8]), {"identity": clean, "noise:8": noisy}, budget=3)
    assert selection.selected == ("gone", "shaky", "firm")
    assert "stability 0.400" in selection.reasons["shaky"]


def test_lt_c_takes_tight_and_unsure_or_loose_and_sure():
    clean = {
        "tight, sure": tile(BOX, [0.95], [0.95]),
        "tight, unsure": tile(BOX, [0.4], [0.62]),
        "loose, sure": tile(BOX, [0.9], [0.15]),
    }
    selection = run(LAAL(mode="lt_c"), {"identity": clean}, budget=3)
    assert selection.selected == ("tight, unsure", "loose, sure", "tight, sure")


@pytest.mark.parametrize("mode", ["ls_c", "lt_c", "three_in_one"])
def test_a_tile_without_detections_is_the_most_informative(mode):
    clean = {"a": tile(BOX, [0.4], [0.59]), "empty": tile([], []), "b": tile(BOX, [0.7])}
    gone = dict.fromkeys(clean, tile([], []))  # not even the least stable tile is preferred
    selection = run(LAAL(mode=mode, sigmas=[8]), {"identity": clean, "noise:8": gone}, budget=2)
    assert selection.selected[0] == "empty"
    assert selection.reasons["empty"] == "rank 1: no nucleus is detected"


def test_low_scores_take_no_part():
    clean = {"a": tile(BOX * 2, [0.9, 0.4]), "b": tile(BOX, [0.7])}
    assert run(LAAL(), {"identity": clean}).selected == ("a",)
    assert run(LAAL(), {"identity": clean}, score_thresh=0.5).selected == ("b",)


def test_only_the_surest_boxes_are_compared_but_all_are_unsure_of_their_class():
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]]
    clean = {"x": tile(boxes, [0.6, 0.9, 0.8])}
    noisy = {"x": tile(boxes[1:2], [0.9])}  # the surest box alone is found again
    tables = {"identity": clean, "noise:8": noisy}
    for limit, expected in ((1, 1.0), (2, 0.9 / 1.7), (30, 0.9 / 2.3)):
        scores = run(LAAL(sigmas=[8], max_ref=limit), tables).scores
        assert scores["stability"]["x"] == pytest.approx(expected)
        assert scores["class_uncertainty"]["x"] == pytest.approx(0.4)


@given(
    pmax=st.lists(st.floats(0.01, 1), min_size=1, max_size=9),
    overlap=st.lists(st.floats(0, 1), min_size=9, max_size=9),
)
def test_stability_is_a_weighted_mean(pmax, overlap):
    pmax, overlap = np.array(pmax), np.array(overlap[: len(pmax)])
    assert overlap.min() - 1e-9 <= stability(pmax, overlap) <= overlap.max() + 1e-9
    assert stability(pmax, np.ones(len(pmax))) == pytest.approx(1)


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 8))
def test_the_best_match_is_the_largest_iou(seed, n_reference, n_boxes):
    rng = np.random.default_rng(seed)
    corners = [rng.uniform(0, 30, (n, 2)) for n in (n_reference, n_boxes)]
    reference, boxes = (np.concatenate([c, c + rng.uniform(1, 20, c.shape)], axis=1) for c in corners)
    rows, iou = best_match(reference, boxes)
    for i, (row, value) in enumerate(zip(rows, iou)):
        alone = [pairwise_iou(reference[[i]], boxes[[j]])[0, 0] for j in range(n_boxes)]
        assert value == pytest.approx(max(alone)) == pytest.approx(alone[row])
        assert 0 <= value <= 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"mode": "best"}, "MODE"),
        ({"sigmas": []}, "SIGMAS"),
        ({"sigmas": [8, -1]}, "SIGMAS"),
        ({"sigmas": [8, 8]}, "SIGMAS"),
        ({"max_ref": 0}, "MAX_REF"),
    ],
)
def test_values_that_cannot_work_name_their_key(settings, key):
    with pytest.raises(ConfigError, match=f"OSAL.LAAL.{key}"):
        LAAL(**settings)
