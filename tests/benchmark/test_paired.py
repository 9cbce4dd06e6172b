"""Screened rules compared pair by pair: the same seeds of both, at equal seconds or to an equal level."""

import numpy as np
import pytest
from protocol.paired import compare, difference, seconds_to_reach, share_of_seconds


def test_paired_interval_by_hand_and_its_verdict():
    d = difference([3.0, 5.0], [1.0, 1.0])  # 2 and 4: mean 3, standard error 1, t(1) = 12.706
    assert (d.mean, d.low, d.high) == pytest.approx((3.0, 3 - 12.7062, 3 + 12.7062), abs=1e-3)
    assert d.verdict == "too few seeds"
    wiggle = np.tile([0.1, -0.1], 5)
    assert difference(1.5 + wiggle, np.zeros(10)).verdict == "better"
    assert difference(0.5 + wiggle, np.zeros(10)).verdict == "level"
    assert difference(-1.5 + wiggle, np.zeros(10)).verdict == "worse"
    assert difference(1.5 + 40 * wiggle, np.zeros(10)).verdict == "undecided"
    points = [{"seconds": s, "mAP50": m} for s, m in ((100, 10), (200, 20), (300, 40))]
    assert seconds_to_reach({"points": points}, 30) == 250
    assert seconds_to_reach({"points": points}, 50) == float("inf")


def test_only_seeds_that_both_have_are_compared():
    def cell(arm, seed, values):
        points = [{"seconds": 0, "mAP50": v} for v in values]
        return dict(setting="3_4", side=250, cost="default", policy="drop", arm=arm, seed=seed, points=points)

    cells = [
        cell("random", 0, [1, 2]),
        cell("random", 1, [1, 4]),
        cell("pcss", 1, [1, 7]),
        cell("pcss", 2, [1, 99]),
    ]
    found = compare(cells)[("3_4", 250, "default", "drop", "pcss")]
    assert found["seeds"] == [1] and found["all"].mean == 3 and found["prices"][1].mean == 3


def test_share_of_the_seconds_to_a_level_by_hand():
    def cell(arm, seed, *curve):
        names = {"setting": "3_4", "side": 250, "cost": "default", "policy": "drop", "arm": arm, "seed": seed}
        return {**names, "points": [{"seconds": s, "mAP50": m} for s, m in curve]}

    cells = [cell("random", seed, (100, 10), (300, 30)) for seed in range(3)]  # 20 after 200 s
    cells += [
        cell("a", 0, (100, 10), (200, 30)),
        cell("a", 1, (100, 20), (200, 30)),
        cell("a", 2, (100, 10), (200, 11)),
    ]
    share = share_of_seconds(cells, 20.0)[("3_4", 250, "default", "drop", "a")]
    assert share.n == 2 and share.mean == pytest.approx(
        (150 / 200 + 100 / 200) / 2
    )  # the third never gets there
