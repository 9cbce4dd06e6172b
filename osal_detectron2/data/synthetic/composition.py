"""How many nuclei of each class lie in which tile: totals as in the paper, tiles as unlike as tissue is.

Each tile has a theme (nests of tumour, lymphoid aggregate, plasma cells, fat ...). Iterative proportional
fitting scales the themes' mixtures until every tile has its number of nuclei and every class its total.
"""

from dataclasses import dataclass

import numpy as np

from .classes import PAPER_COUNTS, PAPER_TILES

CLASS_NAMES = tuple(PAPER_COUNTS)


@dataclass(frozen=True)
class Theme:
    """share: of all tiles; density: nuclei per area (1 is average); mixture: weight of each class."""

    share: float
    density: float
    mixture: tuple[float, ...]


# mixture:                              tumor  lymph  strom  plasma  mitot  macro  other
THEMES = {
    "nests": Theme(0.34, 1.35, (0.880, 0.045, 0.060, 0.006, 0.006, 0.006, 0.002)),
    "mixed": Theme(0.20, 1.00, (0.500, 0.130, 0.300, 0.040, 0.003, 0.020, 0.008)),
    "stroma": Theme(0.13, 0.50, (0.020, 0.110, 0.800, 0.040, 0.000, 0.020, 0.010)),
    "lymphoid": Theme(0.09, 1.90, (0.060, 0.800, 0.070, 0.060, 0.000, 0.008, 0.004)),
    "plasma": Theme(0.09, 1.40, (0.060, 0.150, 0.170, 0.600, 0.000, 0.015, 0.010)),
    "macrophage": Theme(0.05, 0.75, (0.150, 0.130, 0.260, 0.060, 0.001, 0.380, 0.020)),
    "duct": Theme(0.03, 0.80, (0.050, 0.080, 0.350, 0.040, 0.000, 0.020, 0.460)),
    "fat": Theme(0.07, 0.05, (0.005, 0.100, 0.800, 0.020, 0.000, 0.070, 0.005)),
}


def choose_themes(slide_of_tile, rng):
    """Theme name of each tile. A slide prefers some themes, so that tiles of one slide resemble each other.

    Shares over all tiles are exact (largest remainders): only which tile gets which theme is drawn.
    """
    n, names = len(slide_of_tile), list(THEMES)
    quota = _round_to_total(np.array([theme.share for theme in THEMES.values()]) * n, n, rng)
    taste = rng.gamma(0.8, size=(max(slide_of_tile) + 1, len(names))) + 0.05
    themes = [""] * n
    for tile in rng.permutation(n):
        weight = taste[slide_of_tile[tile]] * quota
        choice = rng.choice(len(names), p=weight / weight.sum())
        quota[choice] -= 1
        themes[tile] = names[choice]
    return themes


def count_nuclei(themes, areas, rng, standard_area):
    """Integer array (tiles, 7): nuclei of each class in each tile.

    Args:
        themes: theme name of each tile.
        areas: pixels of each tile.
        standard_area: pixels of a tile that holds an average number of nuclei, PAPER_COUNTS / PAPER_TILES.

    The column sums are PAPER_COUNTS scaled to the area of the set, rounded.
    """
    areas = np.asarray(areas, float)
    paper = np.array([PAPER_COUNTS[name] for name in CLASS_NAMES], float)
    totals = np.maximum(np.rint(paper * areas.sum() / (standard_area * PAPER_TILES)), 1)
    capacity = areas * np.array([THEMES[name].density for name in themes])
    capacity *= rng.gamma(9.0, 1 / 9.0, size=len(themes))
    capacity *= totals.sum() / capacity.sum()
    mixture = np.array([THEMES[name].mixture for name in themes]) + 2e-4
    mixture *= rng.gamma(2.5, 1 / 2.5, size=mixture.shape) + 0.02
    expected = fit_margins(mixture, rows=capacity, columns=totals)
    columns = [_round_to_total(expected[:, c], int(totals[c]), rng) for c in range(len(CLASS_NAMES))]
    return np.stack(columns, axis=1)


def fit_margins(matrix, rows, columns, steps=200):
    """Scale rows and columns of a positive matrix until it has the given sums (columns exactly)."""
    matrix = np.array(matrix, float)
    for _ in range(steps):
        matrix *= (rows / matrix.sum(axis=1))[:, None]
        matrix *= columns / matrix.sum(axis=0)
    return matrix


def _round_to_total(values, total, rng):
    """Integers near `values` that sum to `total`; what is left after rounding down is drawn by remainder."""
    whole = np.floor(values).astype(int)
    left = total - int(whole.sum())
    if left > 0:
        remainder = values - whole + 1e-9
        chosen = rng.choice(len(values), size=left, replace=False, p=remainder / remainder.sum())
        whole[chosen] += 1
    return whole
