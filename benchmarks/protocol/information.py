"""A rule by Fisher information: by what a region steadies the predictions on the whole pool, per expected second.

The screening's detector is a logistic regression, for which this is the textbook's answer (V-optimal design; in active
learning BAIT: Ash et al., NeurIPS 2021). With B the inverse Hessian and S the information of the pool, predictions have
the variance tr(B S), and labelling a region adds its own information to the Hessian. So likeness to what is labelled,
and among what is asked for, counts without a constant for it.
"""

from collections.abc import Iterator

import numpy as np

from .detector import FOREGROUND, State
from .order import shuffled

RANK = 24  # leading directions of a region's information that are kept


def information_per_second(state: State) -> Iterator[int]:
    """Greedy by the fall of tr(B S), per expected second."""
    scene = state.scene
    x = np.concatenate([scene.x, np.ones((len(scene.x), 1), np.float32)], axis=1)
    x *= np.sqrt(_weights(state.posterior))[:, None]
    dim = x.shape[1]
    root = np.zeros((len(scene.keys), RANK, dim))  # root.T @ root: information of a region
    for region, rows in enumerate(scene.proposals_of):
        _, s, v = np.linalg.svd(x[rows], full_matrices=False)
        root[region, : len(s[:RANK])] = s[:RANK, None] * v[:RANK]
    pool = np.einsum("rka,rkb->ab", root, root, optimize=True)
    labelled = root[list(state.labelled)]
    nuclei = 1.0 if state.recipe.per_nucleus else max(int(state.have.sum()), 1)
    penalty = state.recipe.penalty * nuclei / FOREGROUND  # of a loss in which a nucleus weighs one
    inverse = np.linalg.inv(
        penalty * np.eye(dim) + np.einsum("rka,rkb->ab", labelled, labelled, optimize=True)
    )
    waiting = np.array(shuffled(state, state.unlabelled.tolist()))
    while len(waiting):
        f = root[waiting]
        fb = f @ inverse
        inner = np.eye(RANK) + fb @ f.transpose(0, 2, 1)
        fall = np.trace(np.linalg.solve(inner, fb @ pool @ fb.transpose(0, 2, 1)), axis1=1, axis2=2)
        at = int((fall / state.expected_seconds[waiting]).argmax())
        yield int(waiting[at])
        inverse = inverse - fb[at].T @ np.linalg.solve(inner[at], fb[at])
        waiting = np.delete(waiting, at)


def _weights(posterior: np.ndarray) -> np.ndarray:
    """(n,) of each proposal: 1 - sum of squared posteriors, with background as light as it is in training."""
    nucleus = posterior[:, :-1].sum(axis=1)
    ratio = (1 - FOREGROUND) / FOREGROUND * nucleus.sum() / max((1 - nucleus).sum(), 1e-6)
    return (1.0 - np.square(posterior).sum(axis=1)) * (nucleus + (1 - nucleus) * ratio)
