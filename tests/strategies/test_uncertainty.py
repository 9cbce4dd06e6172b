"""Uncertainty: modes and aggregations worked out by hand, and the tiles without detections."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from play import play

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext
from osal_detectron2.strategies.posteriors import softmax
from osal_detectron2.strategies.uncertainty import MODES, Uncertainty, box_uncertainty, tile_score


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("entropy", 1.0397208),  # docs/reproducibility.md 8
        ("least_confidence", 0.5),
        ("margin", 0.75),
    ],
)
def test_vectors_of_one_box(mode, expected):
    assert box_uncertainty(np.array([[0.5, 0.25, 0.25]]), mode=mode) == pytest.approx([expected])


def test_background_is_part_of_entropy_and_margin_but_not_a_class_to_be_confident_of():
    background = np.array([[0.1, 0.1, 0.8]])
    assert box_uncertainty(background, mode="least_confidence") == pytest.approx([0.9])
    assert box_uncertainty(background, mode="margin") == pytest.approx([0.3])
    assert box_uncertainty(background, mode="entropy") == pytest.approx([0.6390319])


def test_a_certain_box_has_no_entropy_rather_than_nan():
    assert box_uncertainty(np.array([[1.0, 0.0, 0.0]]), mode="entropy") == pytest.approx([0.0])
    assert box_uncertainty(softmax(np.array([[2000.0, 0, 0]])), mode="entropy") == pytest.approx([0.0])


@pytest.mark.parametrize("mode", MODES)
@given(logits=arrays(np.float32, (5, 4), elements=st.floats(-50, 50, width=32)), shift=st.floats(-30, 30))
def test_bounds_and_invariances(mode, logits, shift):
    values = box_uncertainty(softmax(logits), mode=mode)
    most = np.log(4) if mode == "entropy" else 1.0
    assert ((values > -1e-9) & (values < most + 1e-9)).all()
    assert values == pytest.approx(box_uncertainty(softmax(logits + np.float64(shift)), mode=mode), abs=1e-6)
    renamed = logits[:, [2, 0, 1, 3]]  # known classes in another order
    assert values == pytest.approx(box_uncertainty(softmax(renamed), mode=mode))


def rows(*posteriors, scores=None):
    logits = np.log(np.array(posteriors).reshape(-1, 3))
    return {"logits": logits, "scores": np.array(scores or [0.9] * len(logits), dtype=float)}


@pytest.mark.parametrize(("agg", "expected"), [("mean", 0.3), ("max", 0.5), ("sum", 0.6)])
def test_aggregations(agg, expected):
    tile = rows((0.5, 0.25, 0.25), (0.9, 0.05, 0.05), (0.2, 0.2, 0.6), scores=[0.9, 0.9, 0.01])
    result = tile_score(tile, mode="least_confidence", agg=agg, score_thresh=0.05)
    assert result == (pytest.approx(expected), 2)


def ask(tables, budget, known_boxes_only=False, **settings):
    requests = []
    context = QueryContext(
        pool=tuple(tables), budget=budget, seed=0, round_index=0, known_boxes_only=known_boxes_only
    )
    selection = play(Uncertainty(**settings), context, lambda r: {k: tables[k] for k in r.over}, requests)
    (request,) = requests
    assert (request.detector, request.source, request.view) == ("target", "detections", "identity")
    return selection


def test_mean_and_sum_prefer_other_tiles_and_nothing_detected_comes_first():
    tables = {
        "one_unsure": rows((0.4, 0.3, 0.3)),
        "crowd_of_surer": rows(*[(0.7, 0.2, 0.1)] * 9),
        "sure": rows((0.98, 0.01, 0.01)),
        "empty": rows(),
        "junk": rows((0.4, 0.3, 0.3), scores=[0.01]),
    }
    mean = ask(tables, 5)
    assert set(mean.selected[:2]) == {"empty", "junk"}
    assert mean.selected[2:] == ("one_unsure", "crowd_of_surer", "sure")
    assert ask(tables, 3, agg="sum").selected[2:] == ("crowd_of_surer",)
    assert "nothing is detected" in mean.reasons["junk"]
    assert all(np.isfinite(list(column.values())).all() for column in mean.scores.values())


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"mode": "variance"}, "OSAL.UNCERTAINTY.MODE"), ({"agg": "median"}, "OSAL.UNCERTAINTY.AGG")],
)
def test_a_wrong_choice_names_the_key(settings, key):
    with pytest.raises(ConfigError, match=f"{key}: .* not one of"):
        Uncertainty(**settings)


def test_with_li_the_box_uncertainty_multiplies_the_score_by_hand():
    tables = {
        "tight": rows((0.5, 0.25, 0.25)) | {"loc_tightness": np.array([0.9])},
        "loose": rows((0.6, 0.2, 0.2)) | {"loc_tightness": np.array([0.5])},
        "empty": rows() | {"loc_tightness": np.array([])},
    }
    assert ask(tables, 3, mode="least_confidence").selected == ("empty", "tight", "loose")
    with_li = ask(tables, 3, mode="least_confidence", use_li=True)
    assert with_li.selected == ("empty", "loose", "tight")
    assert with_li.scores["score"] == pytest.approx({"tight": 0.05, "loose": 0.2, "empty": 0.0})
    assert "least confidence times box uncertainty 0.200" in with_li.reasons["loose"]


def test_where_known_boxes_count_alone_a_tile_without_any_comes_last():
    tables = {"sure": rows((0.98, 0.01, 0.01)), "empty": rows()}
    selection = ask(tables, 2, known_boxes_only=True)
    assert selection.selected == ("sure", "empty")
    assert "nothing that looks known is detected" in selection.reasons["empty"]
