"""The package's own strategies on the screening's numbers, by their own contract (strategies/base.py).

What stands for what: detections of the target are the proposals with a posterior of .05 or more of a class, one a
class, as Detectron2 has it; tightness is that of the localiser's box, since no box regression is trained here; the
auxiliary is a classifier of known, unknown and background on the same features, and its posterior stands for the
distances to the prototypes, so that PCSS is PCSS by label.
"""

from collections.abc import Mapping

import numpy as np

from osal_detectron2.strategies import QueryContext, Selection, get_strategy
from osal_detectron2.strategies.base import Pass, check_selection

from .detector import State

TARGET_SCORE, AUXILIARY_SCORE = 0.05, 0.3


def select(
    state: State, name: str, *, budget: int, score_thresh: float = TARGET_SCORE, **settings
) -> Selection:
    """What the strategy registered as `name` selects, with `budget` regions and its own `settings`.

    score_thresh: target detections below it take no part in what it computes.
    """
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
        score_thresh=score_thresh,
    )
    dialogue = get_strategy(name)(**settings).select(context)
    try:
        request = next(dialogue)
        while True:
            request = dialogue.send({key: _answer(state, request, row[key]) for key in request.over})
    except StopIteration as stop:
        return check_selection(stop.value, context)


def affordable(state: State) -> int:
    """Regions that the rest of the price buys at their expected price: the budget of strategies that want a number."""
    mean = float(state.expected_seconds[state.unlabelled].mean())
    return max(1, min(len(state.unlabelled), round((state.price - state.spent) / mean)))


def _answer(state: State, request: Pass, region: int) -> Mapping[str, np.ndarray]:
    scene = state.scene
    if request.source == "image":
        return {"image_feature": scene.region_feature[region]}
    if request.source != "detections" or request.view != "identity":
        raise NotImplementedError(f"the screening has no pass {request.source!r} of view {request.view!r}")
    rows = scene.proposals_of[region]
    if request.detector == "auxiliary":
        p = state.auxiliary_posterior[rows]
        kept = p[:, :2].max(axis=1) >= AUXILIARY_SCORE
        rows, p = rows[kept], p[kept]
        share = p[:, 0] / p[:, :2].sum(axis=1)
        return {
            "boxes": scene.boxes[rows],
            "scores": p[:, :2].max(axis=1),
            "classes": p[:, :2].argmax(axis=1),
            "dist_known": 1 - share,
            "dist_unknown": share,
        }
    p = state.posterior[rows]
    box, classes = np.nonzero(p[:, :-1] >= TARGET_SCORE)
    rows, values = rows[box], np.log(p[box] + 1e-12)
    values -= values.mean(axis=1, keepdims=True)
    evidence = values[:, :-1].clip(min=0)  # Eq. 4: ReLU of the logits of the known classes
    return {
        "boxes": scene.boxes[rows],
        "scores": p[box, classes],
        "classes": classes,
        "logits": values,
        "cls_uncertainty": evidence.shape[1] / (evidence + 1).sum(axis=1),
        "loc_tightness": scene.tightness[rows],
    }
