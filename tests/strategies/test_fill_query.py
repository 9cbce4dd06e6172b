"""Every strategy under a price: as much as it buys, and the candidates that its number of tiles asks for."""

import dataclasses

import numpy as np
import pytest
from play import play
from test_strategies import ask, made_up, pool, reply_to

from osal_detectron2.strategies import Selection, Strategy, available, get_strategy
from osal_detectron2.strategies.fill_query import Purse, count_nuclei, fill_query

KEYS = pool(40)


class Priced(Strategy):
    """`strategy` with a purse, as an object that `play` can ask."""

    def __init__(self, strategy, purse):
        self.strategy, self.purse = strategy, purse

    def select(self, context):
        selection = yield from fill_query(self.strategy, context, self.purse)
        # `play` holds a selection to the size of the context: the true one is told apart here.
        self.told = selection
        return dataclasses.replace(selection, selected=context.pool[: context.size])


def spend(strategy, purse, *, keys=KEYS, tables=made_up, requests=None) -> Selection:
    priced = Priced(strategy, purse)
    play(priced, ask(keys, budget=1), lambda request: reply_to(request, tables), requests)
    return priced.told


def purse(target, *, unit="seconds", **changes):
    opening, nucleus = {"tiles": (1.0, 0.0), "nuclei": (0.0, 1.0), "seconds": (15.0, 3.0)}[unit]
    tile = opening + nucleus * 12
    return Purse(
        unit, target, opening, nucleus, nuclei=12.0, tile=changes.pop("tile", tile), score=0.0, **changes
    )


def price(key, p):
    nuclei = count_nuclei(made_up(key), score_thresh=p.score)
    return p.opening + p.nucleus * (p.nuclei + nuclei) / 2


@pytest.mark.parametrize("unit", ("nuclei", "seconds"))  # the engine fills no price in tiles
@pytest.mark.parametrize("name", available())
def test_every_strategy_spends_what_it_may_in_every_unit(name, unit):
    target = {"nuclei": 110, "seconds": 450}[unit]
    p = purse(target, unit=unit)
    selection = spend(get_strategy(name)(), p)
    assert len(set(selection.selected)) == len(selection.selected) and set(selection.selected) <= set(KEYS)
    assert set(selection.reasons) == set(selection.selected)
    expected = selection.scores[f"expected_{unit}"]
    spent = sum(expected[key] for key in selection.selected)
    assert abs(spent - target) <= max(expected.values()) / 2 + 1e-9, "nearer with a tile more or fewer"
    assert all(expected[key] == pytest.approx(price(key, p)) for key in selection.selected)


@pytest.mark.parametrize("name", ["random", "osal_nd", "openal", "osal_nd_plus"])
def test_whatever_the_first_estimate_the_price_is_filled(name):
    for tile in (5.0, 51.0, 500.0):
        selection = spend(get_strategy(name)(), purse(450, tile=tile))
        spent = sum(selection.scores["expected_seconds"][key] for key in selection.selected)
        assert spent == pytest.approx(450, abs=40)
    everything = spend(get_strategy(name)(), purse(1e6))
    assert set(everything.selected) == set(KEYS)


def test_candidates_are_twice_what_the_price_buys_and_not_twice_the_estimate():
    """PCSS asks for dense tiles, which are dear: an estimate from the mean is too large, and so would 2N be."""

    def tables(key):
        row = made_up(key, empty=0)
        number = int(key[5:8]) % 20 + 1
        at = np.linspace(0, 900, number)
        boxes = np.stack([at, at, at + 20, at + 20], axis=1)
        columns = {c: np.resize(v, (number, *v.shape[1:])) for c, v in row.items() if c[:3] != "gt_"}
        return {**row, **columns, "boxes": boxes, "scores": np.full(number, 0.9),
                "dist_known": np.zeros(number), "dist_unknown": np.ones(number)}  # fmt: skip

    p = dataclasses.replace(purse(240, tile=20.0), nuclei=4.0)  # twelve tiles by the estimate
    selection = spend(get_strategy("osal_nd")(), p, tables=tables)
    assert len(selection.candidates) == 2 * len(selection.selected) < 24
    # And the other way round: cheap tiles, of which the price buys more than the estimate says.
    cheap = dataclasses.replace(p, tile=200.0)
    again = spend(get_strategy("osal_nd")(), cheap, tables=tables)
    assert len(again.candidates) in (2 * len(again.selected), 2 * len(again.selected) + 2)


def test_an_overspent_budget_still_asks_for_one_tile():
    assert len(spend(get_strategy("random")(), purse(-100.0)).selected) == 1


def test_tiles_are_looked_at_once_and_only_those_in_question():
    requests = []
    selection = spend(get_strategy("random")(), purse(450, detector="auxiliary"), requests=requests)
    assert {r.detector for r in requests} == {"auxiliary"}
    looked = [key for r in requests for key in r.over]
    assert len(looked) == len(set(looked)) < 20 and set(selection.selected) <= set(looked)
    assert spend(get_strategy("random")(), purse(9, unit="tiles"), requests=(none := [])) and none == []


def test_boxes_on_one_nucleus_count_once():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]], dtype=float)
    detections = {"boxes": boxes, "scores": np.array([0.9, 0.8, 0.5, 0.2])}
    assert [count_nuclei(detections, score_thresh=t) for t in (0.1, 0.4, 0.6, 0.95)] == [2, 2, 1, 0]
