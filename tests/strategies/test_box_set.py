"""Which detections a strategy sees: one box a nucleus, and those on nuclei that look known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from play import play

from osal_detectron2.core.boxes import pairwise_iou
from osal_detectron2.scoring.box_set import needs_for_known_boxes
from osal_detectron2.strategies import Detections, QueryContext, Selection, available, get_strategy
from osal_detectron2.strategies.base import Strategy
from osal_detectron2.strategies.box_match import (
    acquisition_set,
    one_box_a_nucleus,
    with_boxes_on,
    with_one_box_a_nucleus,
)

# Of rows 0 and 1 the IoU is 80 / 120; of 0 and 2 exactly .5; of 1 and 2 60 / 90; 3 is alone.
BOXES = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [0, 0, 10, 5], [50, 50, 60, 60]], dtype=float)
corner = st.integers(0, 12)
box_sets = st.lists(st.tuples(corner, corner, st.integers(1, 12), st.integers(1, 12)), max_size=12)


def test_boxes_of_one_nucleus_by_hand():
    assert one_box_a_nucleus(BOXES, np.array([0.9, 0.8, 0.7, 0.1])).tolist() == [0, 3]
    assert one_box_a_nucleus(BOXES, np.array([0.5, 0.6, 0.7, 0.8])).tolist() == [3, 2, 1]
    assert one_box_a_nucleus(BOXES[[0, 0]], np.array([0.5, 0.5])).tolist() == [0]
    assert one_box_a_nucleus(np.zeros((0, 4)), np.zeros(0)).tolist() == []


@given(box_sets, st.integers(0, 99), st.floats(0, 1))
def test_every_nucleus_keeps_its_best_box_whatever_the_order_and_the_threshold(corners, seed, threshold):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], dtype=float).reshape(-1, 4)
    rng = np.random.default_rng(seed)
    scores = rng.permutation(len(boxes)) / 12
    row = {"boxes": boxes, "scores": scores, "logits": rng.normal(size=(len(boxes), 3)), "reference": BOXES}
    kept = with_one_box_a_nucleus(row)
    overlap = pairwise_iou(kept["boxes"], kept["boxes"])
    np.fill_diagonal(overlap, 0)
    assert (overlap < 0.5).all()
    for box, score in zip(boxes, scores):  # what is gone has a better box at its place
        near = pairwise_iou(box[None], kept["boxes"])[0] >= 0.5
        assert (kept["scores"][near] >= score).any()
    order = rng.permutation(len(boxes))
    shuffled = with_one_box_a_nucleus({k: v if k == "reference" else v[order] for k, v in row.items()})
    assert set(shuffled["scores"]) == set(kept["scores"]) and len(kept["reference"]) == len(BOXES)
    first = acquisition_set(kept, score_thresh=threshold)
    last = with_one_box_a_nucleus(acquisition_set(row, score_thresh=threshold))
    assert all(np.array_equal(first[name], last[name]) for name in row)


class Looks(Strategy):
    """Writes down what it sees of both detectors."""

    name = "looks"

    def select(self, context):
        self.seen = {}
        for detector in ("target", "auxiliary"):
            table = yield Detections(over=context.pool, detector=detector)
            self.seen[detector] = table["tile"]["scores"].tolist()
        return Selection(selected=context.pool)


def look(**settings):
    strategy, scores = Looks(), np.array([0.9, 0.8, 0.7, 0.1])
    context = QueryContext(pool=("tile",), budget=1, seed=0, round_index=0, **settings)
    play(strategy, context, lambda request: {"tile": {"boxes": BOXES, "scores": scores}})
    return strategy.seen


def test_a_strategy_sees_one_box_of_the_target_a_nucleus_if_told_to():
    assert look() == {"target": [0.9, 0.8, 0.7, 0.1], "auxiliary": [0.9, 0.8, 0.7, 0.1]}
    assert look(one_box_per_nucleus=True) == {"target": [0.9, 0.1], "auxiliary": [0.9, 0.8, 0.7, 0.1]}


@pytest.mark.parametrize(
    ("nuclei", "kept"), [([0], [0, 1, 2]), ([1], [0, 1]), ([2, 3], [0, 2, 3]), ([3], [3]), ([], [])]
)
def test_boxes_on_nuclei_by_hand(nuclei, kept):
    row = {"boxes": BOXES, "scores": np.arange(4), "reference": BOXES[:1]}
    found = with_boxes_on(row, BOXES[np.array(nuclei, dtype=int)])
    assert found["scores"].tolist() == kept and len(found["reference"]) == 1


class LooksTwice(Strategy):
    """Asks for the target alone, as it is and mirrored."""

    name = "looks_twice"

    def __init__(self, auxiliary):
        super().__init__()
        self.needs, self.seen = {"target": (), "auxiliary": auxiliary}, {}

    def select(self, context):
        for view in ("identity", "hflip"):
            table = yield Detections(over=context.pool, view=view)
            self.seen[view] = table["tile"]["scores"].tolist()
        return Selection(selected=context.pool)


@pytest.mark.parametrize("fields", [("dist_known", "dist_unknown"), ("logits",)])
def test_a_strategy_sees_boxes_on_nuclei_that_look_known_to_the_auxiliary_in_the_same_view(fields):
    """Row 0 looks known, row 3 does not; in the mirrored view it is the other way round. With K = 2 known classes an
    auxiliary without prototypes says so by its classes 1 and 2, of which the last is the unknown one."""

    def reply(request):
        row = {"boxes": BOXES, "scores": np.array([0.9, 0.8, 0.7, 0.1])}
        if request.detector == "auxiliary":
            assert request.fields == (fields if "dist_known" in fields else ())
            known = np.array([True, False]) ^ (request.view == "hflip")
            row = {"boxes": BOXES[[0, 3]], "classes": np.where(known, 1, 2)}
            if request.fields:
                distance = {"dist_known": np.where(known, 1.0, 2.0), "dist_unknown": np.array([1.5, 1.5])}
                row |= distance | {"classes": np.array([2, 2])}
        return {"tile": row}

    strategy = LooksTwice(fields)
    context = {"pool": ("tile",), "budget": 1, "seed": 0, "round_index": 0, "known_classes": ("a", "b")}
    play(strategy, QueryContext(**context, known_boxes_only=True), reply)
    assert strategy.seen == {"identity": [0.9, 0.8, 0.7], "hflip": [0.1]}
    play(strategy, QueryContext(**context, known_boxes_only=True, one_box_per_nucleus=True), reply)
    assert strategy.seen == {"identity": [0.9], "hflip": [0.1]}
    requests = []
    play(strategy, QueryContext(**context), reply, requests)
    assert strategy.seen["hflip"] == [0.9, 0.8, 0.7, 0.1]
    assert {request.detector for request in requests} == {"target"}, "no pass that nobody asked for"


def test_what_looks_at_boxes_of_the_target_gets_an_auxiliary_with_prototypes_and_nothing_else_does():
    given = {name for name in available() if "auxiliary" in get_strategy(name).needs}
    asked = {name: needs_for_known_boxes(get_strategy(name).needs) for name in available()}
    extended = {name for name, needs in asked.items() if "auxiliary" in needs} - given
    assert extended == {"uncertainty", "openal", "cald", "laal", "utss", "pcss_by_target"}
    for name in extended:
        assert asked[name]["auxiliary"] == ("dist_known", "dist_unknown")
    assert asked["lfosa"] == get_strategy("lfosa").needs, "its auxiliary tells known nuclei by their class"
