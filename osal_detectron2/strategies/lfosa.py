"""LfOSA (Ning et al., CVPR 2022) for detection, with the paper's box uncertainty (docs/reproducibility.md 3.7).

The auxiliary detector tells apart the K known classes and one for all unknown nuclei, with temperature 0.5. Each
detection's largest foreground logit is its activation. Among the detections of one class, those of a known nucleus
have large activations and strays have small ones: a mixture of two Gaussians says how likely a box is known.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.errors import check_choice
from ..core.seeding import derive_seed
from .base import Detections, Query, QueryContext, Selection, Strategy, register, require_pool
from .tile_means import localization_uncertainty

AGGREGATIONS: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "sum": np.sum}
MIN_BOXES = 10  # fewer boxes of a class are weighed by the mixture of all known classes
COINCIDE = 1e-6  # means closer than this do not tell the components apart


def activations(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class and activation, each (B,), of boxes with raw `logits` (B, K + 2): known, unknown, background.

    The class is the largest logit without the background, the activation is that logit; no temperature.
    """
    foreground = np.asarray(logits, dtype=np.float64)[:, :-1]
    return foreground.argmax(axis=1), foreground.max(axis=1)


def larger_component(fitted: np.ndarray, values: np.ndarray, *, seed: int) -> np.ndarray:
    """Posterior (n,) of `values` (n,) for the component of larger mean of a mixture of two Gaussians.

    The mixture is fitted to `fitted` (m,), whose order is of no importance. Where two components cannot be told
    apart (one value, equal values, coinciding means) the posterior is 0.5.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    undecided = np.full(len(values), 0.5)
    if len(fitted) < 2 or np.ptp(fitted) < COINCIDE:
        return undecided
    mixture = GaussianMixture(
        n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed % 2**32
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten steps are the method's, converged or not
        mixture.fit(np.sort(fitted)[:, None])
    means = mixture.means_[:, 0]
    if abs(means[0] - means[1]) < COINCIDE:
        return undecided
    return mixture.predict_proba(np.asarray(values)[:, None])[:, means.argmax()]


def known_weights(classes: np.ndarray, activation: np.ndarray, *, unknown: int, seed: int) -> np.ndarray:
    """Weight (B,) in [0, 1] of each box of the pool: how likely it is a known nucleus.

    Args:
        classes, activation: (B,), of all boxes of all tiles of the pool, see `activations`.
        unknown: id of the unknown class; its boxes weigh 0.
        seed: of the mixtures.
    """
    weights = np.zeros(len(classes))
    pooled = activation[classes != unknown]
    for known in np.unique(classes[classes != unknown]):
        rows = classes == known
        fitted = activation[rows] if rows.sum() >= MIN_BOXES else pooled
        weights[rows] = larger_component(fitted, activation[rows], seed=derive_seed(seed, int(known)))
    return weights


@dataclass(frozen=True)
class LfOSASettings:
    """Raises ConfigError for an unknown aggregation."""

    # A tile's known-ness from those of its boxes: "mean", or "sum", the expected number of known nuclei.
    agg: str = "mean"
    # Multiply by LI (Eq. 6); without it, known-ness alone, as in the original.
    use_li: bool = True

    def __post_init__(self) -> None:
        check_choice("OSAL.LFOSA.AGG", self.agg, AGGREGATIONS)


@register
class LfOSA(Strategy):
    """Tiles with the largest known-ness * LI of the whole pool; one stage."""

    name = "lfosa"
    needs = {"auxiliary": ("logits",), "target": ("loc_tightness",)}
    Settings, node = LfOSASettings, "LFOSA"
    cost = {"target": "U", "auxiliary": "U"}
    overrides = {
        "OSAL.AUXILIARY.CLASSES": "k_plus_one",
        "OSAL.AUXILIARY.TEMPERATURE": 0.5,
        "OSAL.AUXILIARY.BOX_BRANCHES": [],
    }

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Detections(over=context.pool, detector="auxiliary", fields=("logits",))
        boxes = {k: activations(table[k]["logits"]) for k in context.pool}
        weights = known_weights(
            np.concatenate([c for c, _ in boxes.values()]),
            np.concatenate([a for _, a in boxes.values()]),
            unknown=table[context.pool[0]]["logits"].shape[1] - 2,
            seed=derive_seed("lfosa", context.seed, context.round_index),
        )
        ends = np.cumsum([len(c) for c, _ in boxes.values()])
        of_tile = dict(zip(boxes, np.split(weights, ends[:-1])))
        table = yield Detections(over=context.pool, detector="target", fields=("loc_tightness",))
        aggregate = AGGREGATIONS[self.settings.agg]
        known = {k: float(aggregate(w)) if len(w) else 0.0 for k, w in of_tile.items()}
        li = {k: localization_uncertainty(table[k], score_thresh=context.score_thresh) for k in context.pool}
        scores = {
            "known": known,
            "n_detected": {k: float(len(w)) for k, w in of_tile.items()},
            "li": li,
            "score": {k: known[k] * (li[k] if self.settings.use_li else 1.0) for k in context.pool},
        }
        selected = tuple(context.rank(context.pool, scores["score"])[: context.size])
        reasons = {
            k: f"rank {rank} of {len(context.pool)} tiles: {scores['n_detected'][k]:.0f} nuclei, known-ness "
            f"{known[k]:.3f}, box uncertainty {li[k]:.3f}"
            for rank, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons, candidates=context.pool)
