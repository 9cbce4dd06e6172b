"""Coreset: tiles that cover the pool, by greedy k-center of Sener and Savarese (docs/reproducibility.md 3.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.errors import check_choice
from .base import ImageFeatures, Query, QueryContext, Selection, Strategy, register, require_pool
from .lazy_greedy import first_largest

FEATURES = ("res5", "fpn")
CHUNK = 1024  # rows and centres that are multiplied at a time


def nearest_distance(points: np.ndarray, centers: np.ndarray, *, chunk: int = 256) -> np.ndarray:
    """Euclidean distance (n,) of each of points (n, D) to the nearest of centres (m, D); inf where m = 0.

    The differences are taken in float64 and not by the |x|^2 - 2xy + |y|^2 expansion, which loses the small distances
    that ties are made of. At most chunk * D numbers at a time are held besides the two arguments.
    """
    nearest = np.full(len(points), np.inf)
    centers = np.asarray(centers, dtype=np.float64)
    for start in range(0, len(points), chunk):
        rows = np.asarray(points[start : start + chunk], dtype=np.float64)
        part = nearest[start : start + chunk]  # a view
        for center in centers:
            np.minimum(part, np.linalg.norm(rows - center, axis=1), out=part)
    return nearest


def distance_bound(points: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function of centres (m, D): an upper bound (n,) of `nearest_distance`, from products in float32.

    Points and centres are taken from the mean of the points, so that what they share cancels nothing. A product 2xy of
    D terms, rounded and summed in float32 in whatever order, errs by less than (D + 8) 2^-23 (|x|^2 + |y|^2).
    """
    mean = points.mean(axis=0, dtype=np.float64)
    most = 1 + (points.shape[1] + 8) * 2.0**-23

    def shifted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exact = rows - mean
        return exact.astype(np.float32), np.einsum("nd,nd->n", exact, exact) * most

    parts = [shifted(points[start : start + CHUNK]) for start in range(0, len(points), CHUNK)]

    def bound(centers: np.ndarray) -> np.ndarray:
        squared = np.full(len(points), np.inf)
        for start in range(0, len(centers), CHUNK):
            others, others_squared = shifted(centers[start : start + CHUNK])
            others *= -2
            for i, (rows, rows_squared) in enumerate(parts):
                products = rows @ others.T
                products[~np.isfinite(products)] = np.inf  # too large for float32: bounds nothing
                nearest = (products + others_squared).min(axis=1) + rows_squared
                part = squared[i * CHUNK : (i + 1) * CHUNK]  # a view
                np.minimum(part, nearest, out=part)
        return np.sqrt(squared.clip(min=0))

    return bound


def k_center_greedy(points: np.ndarray, centers: np.ndarray, *, size: int) -> tuple[list[int], list[float]]:
    """Take `size` times the point farthest from all centres, the first of equals, and make it a centre.

    Each choice costs a product of the points with one centre in float32. It bounds the distances, and exact ones are
    computed of the points that may be farthest.

    Args:
        points: (n, D), n >= size. centres: (m, D); with m = 0 every point is infinitely far.

    Returns:
        Indices in the order of choice, and the distance of each to the centres when it was chosen.
    """
    bound = distance_bound(points)
    upper = bound(centers)
    centre_rows = [*centers]
    distance = np.full(len(points), np.inf)  # to the centres that were `seen` from there
    seen = np.zeros(len(points), dtype=int)

    def exact(rows: np.ndarray) -> np.ndarray:
        for start in np.unique(seen[rows]):
            behind = rows[seen[rows] == start]
            new = nearest_distance(points[behind], np.array(centre_rows[start:]))
            distance[behind] = np.minimum(distance[behind], new)
        seen[rows] = len(centre_rows)
        return distance[rows]

    chosen, radii = [], []
    for _ in range(size):
        index = first_largest(upper, exact)
        chosen.append(index)
        radii.append(float(distance[index]))
        centre_rows.append(points[index])
        upper = np.minimum(upper, bound(points[index : index + 1]))
        upper[index] = distance[index] = -np.inf
    return chosen, radii


@dataclass(frozen=True)
class CoresetSettings:
    """Raises ConfigError for an unknown feature."""

    # What tiles are compared by: "res5" the last map of the backbone (of a C4 model res4), "fpn" the maps that the ROI
    # heads read; means over the tile.
    feature: str = "res5"

    def __post_init__(self) -> None:
        check_choice("OSAL.CORESET.FEATURE", self.feature, FEATURES)


@register
class Coreset(Strategy):
    """Greedy k-center over image features of the target, from all labelled tiles as the first centres.

    Features are taken as they are and compared by the Euclidean distance. Without a labelled tile the first choice is
    the one that the seed prefers.
    """

    name = "coreset"
    needs = {"target": ()}
    Settings, node = CoresetSettings, "CORESET"
    cost = {"target backbone": "U + L"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        # In the order of the tie hash: the first of the largest distances is then the one that the seed prefers.
        keys, labelled = context.rank(context.pool), sorted(context.labelled)
        table = yield ImageFeatures(over=(*keys, *labelled), feature=self.settings.feature)
        points = np.stack([table[k]["image_feature"] for k in keys])
        centers = np.array([table[k]["image_feature"] for k in labelled]).reshape(-1, points.shape[1])
        chosen, radii = k_center_greedy(points, centers, size=context.size)
        selected = tuple(keys[i] for i in chosen)
        far = {k: r for k, r in zip(selected, radii)}
        reasons = {
            k: f"choice {rank}: at distance {far[k]:.3f} from the nearest labelled or chosen tile"
            if np.isfinite(far[k])
            else f"choice {rank}: the first centre, drawn by the seed, since no tile is labelled"
            for rank, k in enumerate(selected, start=1)
        }
        scores = {"score": {k: r for k, r in far.items() if np.isfinite(r)}}
        return Selection(selected=selected, scores=scores, reasons=reasons)
