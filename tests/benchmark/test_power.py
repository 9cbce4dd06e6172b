"""The size of a comparison, against published numbers and against simulation."""

import numpy as np
import pytest
from scipy import stats

from osal_detectron2.benchmark.power import pairs_needed, power_of, spread_at_most


def test_numbers_of_pairs_are_those_of_the_tables():
    # G*Power, "means: difference between two dependent means", two-sided 5 %, power 80 %: dz 0.2, 0.5, 0.8, 1.
    assert [pairs_needed(d, 1.0) for d in (0.2, 0.5, 0.8, 1.0)] == [199, 34, 15, 10]
    assert pairs_needed(2.0, 4.0) == pairs_needed(-0.5, 1.0) == 34, (
        "the effect in spreads counts, and not its sign"
    )
    assert pairs_needed(0.5, 1.0, power=0.95) == 54
    assert pairs_needed(1.0, 0.0) == 2 and pairs_needed(1e-4, 1.0) is None
    for wrong in ({"effect": 0.0}, {"effect": 1.0, "power": 0.01}):
        with pytest.raises(ValueError, match="are needed"):
            pairs_needed(**{"spread": 1.0, **wrong})


@pytest.mark.parametrize(("pairs", "effect", "spread"), [(5, 2.0, 1.5), (12, 1.0, 1.5), (30, 0.5, 1.0)])
def test_the_power_is_the_share_of_simulated_studies_whose_interval_excludes_zero(pairs, effect, spread):
    d = np.random.default_rng(0).normal(effect, spread, (40_000, pairs))
    low = d.mean(axis=1) - stats.t.ppf(0.975, pairs - 1) * d.std(axis=1, ddof=1) / np.sqrt(pairs)
    assert power_of(pairs, effect=effect, spread=spread) == pytest.approx((low > 0).mean(), abs=0.01)


def test_the_true_spread_is_below_the_limit_as_often_as_it_says():
    found = np.random.default_rng(1).normal(0, 3.0, (20_000, 4)).std(axis=1, ddof=1)
    assert (found * spread_at_most(1.0, 4) > 3.0).mean() == pytest.approx(0.8, abs=0.01)
