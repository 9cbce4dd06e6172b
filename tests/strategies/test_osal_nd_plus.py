"""OSAL-ND+: hand-computed parts, and what each switch changes."""

import numpy as np
import pytest
from play import play
from test_strategies import answer, pool

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext, get_strategy
from osal_detectron2.strategies.osal_nd_plus import OSALNDPlus, looks_known

SURE, TORN = (9.0, -9.0, -9.0), (0.0, 0.0, 0.0)  # known, unknown, background


def tile(*, logits, auxiliary=SURE, feature=0.0):
    n = len(logits)
    boxes = np.array([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(n)]).reshape(n, 4)
    return {
        "boxes": boxes, "scores": np.ones(n), "classes": np.zeros(n, int), "logits": np.array(logits).reshape(n, 3),
        "cls_uncertainty": np.ones(n), "loc_tightness": np.zeros(n), "image_feature": np.array([feature, 0.0]),
        "auxiliary": np.tile(auxiliary, (n, 1)),
    }  # fmt: skip


def select(strategy, tiles, *, budget, labelled=()):
    """Like `answer`, with other logits for the auxiliary detector."""
    context = QueryContext(pool=tuple(k for k in tiles if k not in labelled), budget=budget, seed=0, round=1,
                           labelled={k: {} for k in labelled})  # fmt: skip

    def reply(request):
        logits = "auxiliary" if request.detector == "auxiliary" else "logits"
        return {k: {**tiles[k], "logits": tiles[k][logits]} for k in request.over}

    return play(strategy, context, reply)


def test_information_adds_up_over_nuclei_and_is_normalised():
    tiles = {"one": tile(logits=[TORN]), "three": tile(logits=[TORN] * 3), "sure": tile(logits=[SURE] * 9)}
    selection = select(OSALNDPlus(diversity=False), tiles, budget=3)
    assert selection.selected == ("three", "one", "sure")
    assert selection.scores["information"]["three"] == pytest.approx(3.0, abs=1e-4)
    assert selection.scores["information"]["one"] == pytest.approx(1.0, abs=1e-4)


def test_evidence_is_the_product_of_equations_4_and_6_for_each_box():
    rows = {
        **tile(logits=[TORN, TORN]),
        "cls_uncertainty": np.array([0.5, 0.2]),
        "loc_tightness": np.array([0.8, 0.5]),
    }
    selection = select(
        OSALNDPlus(information="evidence", purity=False, diversity=False), {"x": rows}, budget=1
    )
    assert selection.scores["information"]["x"] == pytest.approx(0.5 * 0.2 + 0.2 * 0.5)


def test_purity_discounts_nuclei_that_look_unknown():
    unknown = (-9.0, 9.0, -9.0)
    tiles = {"unknown": tile(logits=[TORN] * 5, auxiliary=unknown), "known": tile(logits=[TORN])}
    assert select(OSALNDPlus(diversity=False), tiles, budget=1).selected == ("known",)
    assert select(OSALNDPlus(diversity=False, purity=False), tiles, budget=1).selected == ("unknown",)


def test_diversity_passes_over_a_duplicate():
    tiles = {
        "labelled": tile(logits=[], feature=0.0),
        "best": tile(logits=[TORN] * 5, feature=10.0),
        "its_copy": tile(logits=[TORN] * 5, feature=10.0),
        "other": tile(logits=[TORN] * 2, feature=-8.0),
        "copy_of_labelled": tile(logits=[TORN] * 9, feature=0.0),
    }
    selection = select(OSALNDPlus(), tiles, budget=2, labelled=("labelled",))
    assert set(selection.selected) in ({"best", "other"}, {"its_copy", "other"})
    without = select(OSALNDPlus(diversity=False), tiles, budget=2, labelled=("labelled",)).selected
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
    for settings in ({"purity": False}, {"diversity": False}, {"information": "count"}):
        assert len(answer(OSALNDPlus(**settings), context).selected) == 5
