"""OpenAL (Qu et al., MICCAI 2023) for detection, with the paper's box uncertainty (docs/reproducibility.md 3.9).

Stage one compares the box features of detections with those of the annotated nuclei: near the known ones and far from
the unknown ones is good. Stage two takes the most uncertain of the best tiles. One detector does both.

Distances are squared Mahalanobis distances in a PCA space of unit-norm features. The original inverts covariances
with a pseudo-inverse, which is degenerate for few nuclei in many dimensions; here they are shrunk.
"""

import math
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np

from ..core.errors import ConfigError
from ..core.seeding import derive_seed
from .base import (
    Detections,
    GroundTruthFeatures,
    Pass,
    Query,
    QueryContext,
    Selection,
    Strategy,
    Table,
    register,
    require_pool,
)
from .tile_means import localization_uncertainty, mean_entropy

MIN_UNKNOWN = 5  # with fewer labelled unknown nuclei, the distance to them is left out
NUCLEI_PER_CLUSTER = 20
TILES_PER_PASS = 64  # box features of more tiles are never in memory at once
_FIELDS = ("roi_feature", "logits", "loc_tightness")


def unit_norm(features: np.ndarray) -> np.ndarray:
    """`features` (n, d) divided by their Euclidean norms, float64; a row of zeros stays."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def shrunk_precision(deviations: np.ndarray, *, shrink: float) -> np.ndarray:
    """Inverse (d, d) of (1 - shrink) S + shrink tr(S) / d I, with S the mean outer product of `deviations` (n, d).

    The identity where nothing deviates, as for a single nucleus: the distance is then Euclidean.
    """
    from sklearn.covariance import ShrunkCovariance

    if np.square(deviations).mean() < 1e-12:
        return np.eye(deviations.shape[1])
    return ShrunkCovariance(shrinkage=shrink, assume_centered=True).fit(deviations).precision_


@dataclass(frozen=True)
class Clusters:
    """Cluster means (W, d) and the precision (d, d) that they share."""

    means: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, *, count: int, shrink: float, seed: int) -> "Clusters":
        """`count` k-means clusters of `points` (n, d), n >= count."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        means, labels = points.mean(axis=0, keepdims=True), np.zeros(len(points), dtype=int)
        if count > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
                found = KMeans(count, n_init=10, max_iter=100, random_state=seed % 2**32).fit(points)
            means, labels = found.cluster_centers_, found.labels_
        return cls(means, shrunk_precision(points - means[labels], shrink=shrink))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance (n,) of `points` (n, d) to the nearest mean."""
        deviations = points[:, None] - self.means
        return np.einsum("nwi,ij,nwj->nw", deviations, self.precision, deviations, optimize=True).min(axis=1)


@dataclass(frozen=True)
class LabelledFeatures:
    """What the annotated nuclei look like: a projection, and the known and the unknown ones in it."""

    mean: np.ndarray
    axes: np.ndarray
    known: Clusters | None
    unknown: Clusters | None

    @classmethod
    def fit(
        cls, features: np.ndarray, is_known: np.ndarray, *, k_out: int, pca: int, shrink: float, seed: int
    ) -> "LabelledFeatures":
        """From box features (n, d) of n >= 1 nuclei, `is_known` (n,) bool. A side without nuclei is None.

        So are fewer than MIN_UNKNOWN unknown nuclei.
        """
        features = unit_norm(features)
        n_unknown = int((~is_known).sum())
        enough = n_unknown >= MIN_UNKNOWN
        dim = min(pca, features.shape[1], len(features) - 1, *([n_unknown - 1] if enough else []))
        mean = features.mean(axis=0)
        centered = features - mean
        _, vectors = np.linalg.eigh(centered.T @ centered)
        axes = vectors[:, ::-1][:, : max(dim, 1)]
        points = centered @ axes
        clusters = min(max(n_unknown // NUCLEI_PER_CLUSTER, 1), k_out)
        return cls(
            mean=mean,
            axes=axes,
            known=Clusters.fit(points[is_known], count=1, shrink=shrink, seed=seed)
            if is_known.any()
            else None,
            unknown=Clusters.fit(points[~is_known], count=clusters, shrink=shrink, seed=seed)
            if enough
            else None,
        )

    def distances(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(d_in, d_out), each (n,), of box features (n, d); zeros for a side that is None."""
        points = (unit_norm(features) - self.mean) @ self.axes
        d_in, d_out = (
            np.zeros(len(points)) if side is None else side.distance(points)
            for side in (self.known, self.unknown)
        )
        return d_in, d_out


def scaled(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Min-max scaling of all boxes of all tiles, by the 1st and 99th percentile and cut to [0, 1].

    All zero where the percentiles are equal.
    """
    everything = np.concatenate(list(values.values()))
    if len(everything) == 0:
        return dict(values)
    low, high = np.percentile(everything, [1, 99])
    width = high - low
    return {k: np.clip((v - low) / width, 0, 1) if width > 1e-12 else v * 0 for k, v in values.items()}


@dataclass(frozen=True)
class OpenALSettings:
    """Raises ConfigError for a value that cannot work."""

    # At most so many k-means clusters of unknown nuclei; one for every 20 that are labelled.
    k_out: int = 9
    # Dimensions of the box features after PCA; at most one fewer than there are labelled unknown nuclei.
    pca: int = 64
    # Share of the isotropic part in a covariance, > 0; 0 would be degenerate for few nuclei in many dimensions.
    shrink: float = 0.1
    # Stage one keeps CAND_FACTOR * budget tiles, as OSAL-ND does.
    cand_factor: float = 2.0
    # Stage two takes entropy times LI (Eq. 6); without it, entropy alone.
    use_li: bool = True

    def __post_init__(self) -> None:
        if min(self.k_out, self.pca) < 1:
            raise ConfigError(
                f"OSAL.OPENAL.K_OUT {self.k_out} and OSAL.OPENAL.PCA {self.pca}: give at least 1 for both"
            )
        if not 0 < self.shrink <= 1:
            raise ConfigError(f"OSAL.OPENAL.SHRINK: {self.shrink} is not above 0 and at most 1")


@register
class OpenAL(Strategy):
    """Candidates by feature distance, then entropy * LI."""

    name = "openal"
    needs = {"target": _FIELDS}
    Settings, node = OpenALSettings, "OPENAL"
    cost = {"target": "U", "target ground truth": "L"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        labelled = yield from self._labelled(context)
        d_in: dict[str, np.ndarray] = {}
        d_out: dict[str, np.ndarray] = {}
        entropy: dict[str, float] = {}
        li: dict[str, float] = {}
        keys = sorted(context.pool)
        for start in range(0, len(keys), TILES_PER_PASS):
            part = tuple(keys[start : start + TILES_PER_PASS])
            table = yield Detections(over=part, detector="target", fields=_FIELDS)
            for key in part:
                rows = table[key]
                kept = np.asarray(rows["scores"], dtype=np.float64) >= context.score_thresh
                features = rows["roi_feature"][kept]
                none = np.zeros(len(features))
                d_in[key], d_out[key] = labelled.distances(features) if labelled else (none, none)
                entropy[key] = mean_entropy(rows, score_thresh=context.score_thresh)
                li[key] = localization_uncertainty(rows, score_thresh=context.score_thresh)
        near, far = scaled(d_in), scaled(d_out)
        scores = {
            "n_detected": {k: float(len(near[k])) for k in keys},
            # A tile without detections cannot be called known: it comes after all others.
            "known_like": {k: float((far[k] - near[k]).mean()) if len(near[k]) else -1.0 for k in keys},
            "entropy": entropy,
            "li": li,
            "score": {k: entropy[k] * (li[k] if self.settings.use_li else 1.0) for k in keys},
        }
        found = {k: float(n > 0) for k, n in scores["n_detected"].items()}
        size = max(context.size, math.floor(self.settings.cand_factor * context.size))
        candidates = context.rank(keys, found, scores["known_like"])[:size]
        selected = tuple(context.rank(candidates, scores["score"])[: context.size])
        reasons = {
            k: f"rank {rank} of {len(candidates)} candidates: features {scores['known_like'][k]:+.3f} towards known, "
            f"entropy {entropy[k]:.3f}, box uncertainty {li[k]:.3f}"
            for rank, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons, candidates=tuple(candidates))

    def _labelled(self, context: QueryContext) -> Generator[Pass, Table, LabelledFeatures | None]:
        """The labelled nuclei, or None if there are none. Yields one pass."""
        keys = tuple(sorted(context.labelled))
        if not keys:
            return None
        table = yield GroundTruthFeatures(over=keys)
        classes = np.concatenate([table[k]["classes"] for k in keys])
        if len(classes) == 0:
            return None
        return LabelledFeatures.fit(
            np.concatenate([table[k]["roi_feature"] for k in keys]),
            classes < len(context.known_classes),
            k_out=self.settings.k_out,
            pca=self.settings.pca,
            shrink=self.settings.shrink,
            seed=derive_seed("openal", context.seed, context.round_index),
        )
