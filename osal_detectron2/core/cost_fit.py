"""What a tile, a nucleus and a draft cost an annotator, from tiles whose time was measured.

seconds of a tile = per_tile + per_nucleus * marked + per_confirmation * confirmed + per_correction * corrected, with
prices of 0 or more. People stop for a phone call and a tool counts on, and a tile that takes long varies more than one
that is done at once: so residuals count relative to the prediction, and by Huber's weights, which cap what one tile
can do. Least squares of that kind is iterated until the prices stand (reweighted `scipy.optimize.nnls`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import numpy as np

from .annotation_cost import AnnotationCost
from .labels import Work

MIN_TILES = 20  # timed tiles that a fit needs
MIN_WITH = (
    10  # and so many with at least one marked nucleus (confirmed, corrected draft) for the price of that
)
PRICES = ("per_tile", "per_nucleus", "per_confirmation", "per_correction")
_HUBER = 1.345  # 95 % efficient where errors are normal
_FLOOR = 1.0  # seconds; below it a prediction weighs no more


@dataclass(frozen=True)
class TimedTile:
    """The time that an annotator took for a tile, and what she did there."""

    annotator: str
    seconds: float
    work: Work


@dataclass(frozen=True)
class CostFit:
    """Prices with the ends of their 95 % bootstrap intervals (percentiles).

    tiles: timed ones. fitted: the prices that the data say; the others are those that were given, low and high alike.
    spread: of the time of a tile about its prediction, relative to it (1.4826 times the median absolute deviation).
    """

    cost: AnnotationCost
    low: AnnotationCost
    high: AnnotationCost
    tiles: int
    fitted: tuple[str, ...]
    spread: float


def fit_cost(
    timed: Iterable[TimedTile], *, default: AnnotationCost | None = None, samples: int = 200, seed: int = 0
) -> CostFit | None:
    """The prices that the times of `timed` tiles say, whoever labelled them; None for fewer than MIN_TILES.

    default: the prices that are taken for what the tiles do not say (a draft, where there were none).
    samples: of the bootstrap, over tiles, a function of `seed`.
    """
    tiles = [t for t in timed if np.isfinite(t.seconds) and t.seconds > 0]
    if len(tiles) < MIN_TILES:
        return None
    default = default or AnnotationCost()
    y = np.array([t.seconds for t in tiles])
    x = np.array([(1.0, t.work.marked, t.work.confirmed, t.work.corrected) for t in tiles])
    told = (x > 0).sum(axis=0) >= MIN_WITH
    given = np.array(astuple(default))
    rest = y - x[:, ~told] @ given[~told]

    def prices(rows: np.ndarray) -> tuple[np.ndarray, float]:
        found, spread = _reweighted(x[rows][:, told], rest[rows], y[rows])
        whole = given.copy()
        whole[told] = found
        return whole, spread

    whole, spread = prices(np.arange(len(y)))
    rng = np.random.default_rng(seed)
    draws = np.array([prices(rng.integers(0, len(y), len(y)))[0] for _ in range(samples)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    cost, lower, upper = (AnnotationCost(*map(float, np.round(v, 4))) for v in (whole, low, high))
    names = tuple(name for name, is_told in zip(PRICES, told) if is_told)
    return CostFit(cost, lower, upper, tiles=len(y), fitted=names, spread=round(spread, 4))


def fit_each(
    timed: Iterable[TimedTile], *, default: AnnotationCost | None = None, samples: int = 200, seed: int = 0
) -> Mapping[str, CostFit | None]:
    """`fit_cost` of each annotator, in the order of their names; None for those with too few tiles."""
    tiles: dict[str, list[TimedTile]] = {}
    for tile in timed:
        tiles.setdefault(tile.annotator, []).append(tile)
    return {n: fit_cost(tiles[n], default=default, samples=samples, seed=seed) for n in sorted(tiles)}


def _reweighted(x: np.ndarray, target: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, float]:
    """Prices (p,) >= 0 with `target` (n,) about x (n, p) @ prices, and the spread of the relative residuals."""
    from scipy.optimize import nnls

    other = seconds - target  # what the prices that are given explain
    scale, weights = np.maximum(seconds, _FLOOR), np.ones(len(seconds))
    prices = np.zeros(x.shape[1])
    for _ in range(50):
        root = np.sqrt(weights) / scale
        new, _ = nnls(x * root[:, None], target * root)
        predicted = np.maximum(x @ new + other, _FLOOR)
        relative = (seconds - predicted) / predicted
        spread = float(1.4826 * np.median(np.abs(relative - np.median(relative))))
        weights = np.minimum(1.0, _HUBER * max(spread, 1e-6) / np.maximum(np.abs(relative), 1e-12))
        done = np.allclose(new, prices, rtol=1e-4, atol=1e-4)
        prices, scale = new, predicted
        if done:
            break
    return prices, spread
