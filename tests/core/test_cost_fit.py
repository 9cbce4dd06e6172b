"""The cost model fitted to simulated annotators whose prices are known."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from osal_detectron2.core.annotation_cost import AnnotationCost
from osal_detectron2.core.cost_fit import MIN_TILES, TimedTile, fit_cost, fit_each
from osal_detectron2.core.labels import TileLabels, Work

TRUE = AnnotationCost(per_tile=20, per_nucleus=5, per_confirmation=1.5, per_correction=6)


def sitting(number, *, cost=TRUE, seed=0, name="anna", drafts=True, noise=0.25, breaks=0.05):
    """Tiles of an annotator with these prices, times off by a quarter; in one of twenty she answers the telephone."""
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(number):
        nuclei = int(rng.poisson(rng.gamma(2, 12)))
        drafted = int(rng.binomial(nuclei, 0.7)) if drafts else 0
        right = int(rng.binomial(drafted, 0.8))
        work = Work(nuclei - drafted, right, drafted - right + (int(rng.poisson(2)) if drafts else 0))
        pause = rng.uniform(300, 1800) * (rng.random() < breaks)
        tiles.append(TimedTile(name, cost.seconds(work) * np.exp(rng.normal(0, noise)) + pause, work))
    return tiles


def test_prices_without_noise_come_back_exactly():
    fit = fit_cost(sitting(40, noise=0, breaks=0), samples=5)
    assert astuple(fit.cost) == pytest.approx(astuple(TRUE), rel=1e-3)
    assert fit.tiles == 40 and fit.spread == pytest.approx(0, abs=1e-6) and len(fit.fitted) == 4


def test_prices_are_found_beside_breaks_and_noise_and_the_intervals_hold_them():
    seeds = range(10)
    fits = [fit_cost(sitting(150, seed=seed)) for seed in seeds]
    costs = np.array([astuple(fit.cost) for fit in fits])
    assert np.median(costs, axis=0) == pytest.approx(astuple(TRUE), rel=0.15)
    inside = [
        [low <= true <= high for low, true, high in zip(astuple(f.low), astuple(TRUE), astuple(f.high))]
        for f in fits
    ]
    assert np.mean(inside) > 0.85
    assert all(0.15 < fit.spread < 0.35 for fit in fits)
    work = Work(10, 20, 5)
    naive = np.linalg.lstsq(
        np.array([[1, *astuple(t.work)] for t in sitting(150)]), [t.seconds for t in sitting(150)], rcond=None
    )[0]
    error = abs(fits[0].cost.seconds(work) - TRUE.seconds(work))
    assert error < 0.1 * TRUE.seconds(work) < abs(naive @ [1, 10, 20, 5] - TRUE.seconds(work))


def test_what_the_tiles_do_not_say_stays_as_it_was_given():
    default = AnnotationCost(per_confirmation=0.7, per_correction=9)
    fit = fit_cost(sitting(60, drafts=False), default=default)
    assert fit.fitted == ("per_tile", "per_nucleus")
    assert fit.cost.per_confirmation == fit.low.per_confirmation == fit.high.per_confirmation == 0.7
    assert fit.cost.per_correction == 9
    # A few tiles with drafts say nothing of their price, but what it is said to be is taken off their time.
    few = sitting(60, drafts=False, noise=0, breaks=0)
    dear = Work(marked=10, confirmed=100)
    few += [TimedTile("anna", replace(TRUE, per_confirmation=0.7).seconds(dear), dear)] * 5
    assert fit_cost(few, default=default).cost.per_nucleus == pytest.approx(TRUE.per_nucleus, rel=1e-3)


def test_no_price_is_negative_and_too_few_tiles_say_nothing():
    work = [Work(marked=n) for n in range(1, 41)]
    falling = [TimedTile("anna", 100.0 - w.marked, w) for w in work]
    assert min(astuple(fit_cost(falling).low)) >= 0
    assert fit_cost(sitting(MIN_TILES - 1)) is None
    useless = [replace(t, seconds=s) for t, s in zip(sitting(MIN_TILES), [0, float("nan")] * 10)]
    assert fit_cost(useless) is None


def test_each_annotator_has_prices_of_her_own_and_the_same_tiles_give_the_same():
    slow = AnnotationCost(*(3 * price for price in astuple(TRUE)))
    both = sitting(80, name="anna") + sitting(80, name="ben", cost=slow, seed=1) + sitting(3, name="cleo")
    fits = fit_each(both)
    assert list(fits) == ["anna", "ben", "cleo"] and fits["cleo"] is None
    assert fits["ben"].cost.per_nucleus > 2 * fits["anna"].cost.per_nucleus
    assert fit_each(reversed(both[::-1])) == fits


def test_a_tile_costs_what_was_measured_or_what_was_done_there():
    cost = AnnotationCost(15, 3, 1, 4)
    two = TileLabels("labelled", [[0, 0, 5, 5], [9, 9, 5, 5]], ["a", "b"])
    assert cost.of(two) == 15 + 6
    assert cost.of(replace(two, work=Work(marked=1, confirmed=1, corrected=3))) == 15 + 3 + 1 + 12
    assert cost.of(replace(two, seconds=100.0)) == 100
    assert cost.of(TileLabels("rejected")) == cost.of(TileLabels("reviewed_empty")) == 15
    # With drafts a nucleus has cost 8 s on the average; without any, what marking one costs.
    assert cost.of_nucleus([two, replace(two, work=Work(1, 1, 3))]) == (3 + 1 + 12) / 2
    assert cost.of_nucleus([two]) == 3
