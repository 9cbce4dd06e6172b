"""The package's own strategies on the screening's numbers, by their own contract (strategies/base.py).

What stands for what: detections of the target are the proposals with a posterior of .05 or more of a class, one a
class, as Detectron2 has it; tightness is that of the localiser's box, since no box regression is trained here; the
auxiliary is a classifier of known, unknown and background on the same features, and its posterior stands for the
distances to the prototypes, so that PCSS is PCSS by label. LfOSA's auxiliary has the known classes and one more;
OpenAL's box features are the classifier's input.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from osal_detectron2.strategies import QueryContext, Selection, get_strategy
from osal_detectron2.strategies.base import Pass, check_selection
from osal_detectron2.strategies.box_match import with_boxes_on, with_one_box_a_nucleus
from osal_detectron2.strategies.prototype_count import looks_known

from .detector import State

TARGET_SCORE, AUXILIARY_SCORE = 0.05, 0.3


@dataclass(frozen=True)
class BoxSet:
    """The target's boxes that a strategy sees: one a nucleus (OSAL.SCORING.ONE_BOX_PER_NUCLEUS), those on nuclei that
    look known (KNOWN_BOXES_ONLY), from a score on (SCORE_THRESH); background: evidence counted from the background's
    logit on, which stands for OSAL.EVIDENCE.BACKGROUND."""

    one_a_nucleus: bool = False
    known_only: bool = False
    score: float = TARGET_SCORE
    background: bool = False


def select(
    state: State, name: str, *, budget: int, boxes: BoxSet = BoxSet(), **settings: object
) -> Selection:
    """What the strategy registered as `name` selects, with `budget` regions and its own `settings`."""
    scene = state.scene
    row = {key: i for i, key in enumerate(scene.keys)}
    context = QueryContext(
        pool=tuple(scene.keys[i] for i in state.unlabelled),
        budget=budget,
        seed=state.seed,
        round_index=state.step,
        labelled={
            scene.keys[i]: dict(zip(scene.known, scene.counts[i, :-1].tolist())) for i in state.labelled
        },
        known_classes=scene.known,
        score_thresh=boxes.score,
        known_boxes_only=boxes.known_only,
    )
    dialogue = get_strategy(name)(**settings).select(context)
    try:
        request = next(dialogue)
        while True:
            request = dialogue.send({key: _answer(state, request, row[key], boxes) for key in request.over})
    except StopIteration as stop:
        return check_selection(stop.value, context)


def affordable(state: State) -> int:
    """Regions that the rest of the price buys at their expected price: the budget of strategies that want a number."""
    mean = float(state.expected_seconds[state.unlabelled].mean())
    return max(1, min(len(state.unlabelled), round((state.price - state.spent) / mean)))


def _answer(state: State, request: Pass, region: int, boxes: BoxSet) -> Mapping[str, np.ndarray]:
    scene = state.scene
    if request.source == "image":
        return {"image_feature": scene.region_feature[region]}
    if request.source == "ground_truth":
        rows = np.flatnonzero(scene.nucleus_region == region)
        return {"roi_feature": scene.nucleus_x[rows], "classes": scene.nucleus_class[rows]}
    if request.source != "detections" or request.view != "identity":
        raise NotImplementedError(f"the screening has no pass {request.source!r} of view {request.view!r}")
    rows = scene.proposals_of[region]
    if request.detector == "auxiliary":
        answer = _open_set if "logits" in request.fields else _auxiliary
        return answer(state, rows)
    found = _target(state, rows, background=boxes.background)
    if boxes.one_a_nucleus:
        found = with_one_box_a_nucleus(found)
    if boxes.known_only:
        nuclei = _auxiliary(state, rows)
        found = with_boxes_on(found, nuclei["boxes"][looks_known(nuclei, unknown=1)])
    return found


def _auxiliary(state: State, rows: np.ndarray) -> dict[str, np.ndarray]:
    p = state.auxiliary_posterior[rows]
    kept = p[:, :2].max(axis=1) >= AUXILIARY_SCORE
    rows, p = rows[kept], p[kept]
    share = p[:, 0] / p[:, :2].sum(axis=1)
    return {
        "boxes": state.scene.boxes[rows],
        "scores": p[:, :2].max(axis=1),
        "classes": p[:, :2].argmax(axis=1),
        "dist_known": 1 - share,
        "dist_unknown": share,
    }


def _open_set(state: State, rows: np.ndarray) -> dict[str, np.ndarray]:
    """LfOSA's auxiliary: the known classes and one of all unknown nuclei."""
    values = state.open_set_logits[rows]
    p = np.exp(values - values.max(axis=1, keepdims=True))
    score = p[:, :-1].max(axis=1) / p.sum(axis=1)
    kept = score >= AUXILIARY_SCORE
    return {
        "boxes": state.scene.boxes[rows[kept]],
        "scores": score[kept],
        "classes": values[kept, :-1].argmax(axis=1),
        "logits": values[kept],
    }


def _target(state: State, rows: np.ndarray, *, background: bool) -> dict[str, np.ndarray]:
    p = state.posterior[rows]
    box, classes = np.nonzero(p[:, :-1] >= TARGET_SCORE)
    rows, values = rows[box], np.log(p[box] + 1e-12)
    values -= values.mean(axis=1, keepdims=True)
    zero = values[:, -1:] if background else 0.0
    evidence = (values[:, :-1] - zero).clip(min=0)  # Eq. 4: ReLU of the logits of the known classes
    return {
        "boxes": state.scene.boxes[rows],
        "scores": p[box, classes],
        "classes": classes,
        "logits": values,
        "cls_uncertainty": evidence.shape[1] / (evidence + 1).sum(axis=1),
        "loc_tightness": state.scene.tightness[rows],
        "roi_feature": state.scene.x[rows],
    }
