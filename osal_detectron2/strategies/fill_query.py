"""A query that fills a price: any strategy, asked for as many tiles as the price buys.

The strategy gives an order, and tiles are taken from its beginning. How many that will be is not known before, and a
strategy that keeps candidates (CAND_FACTOR times the budget in PCSS) needs the number. So it is asked with an
estimate, and again with more where its list ends before the price, or with fewer where it keeps candidates and the
price ends before the list. Passes of a query are kept, so that to ask again costs little but where a strategy reads box
features or other views of a tile (OpenAL, CALD).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..core.budget import fill
from .base import Detections, Query, QueryContext, Selection, Strategy, check_selection, require_pool
from .box_match import one_box_a_nucleus

MOST_QUESTIONS = 6


@dataclass(frozen=True)
class Purse:
    """What a query may spend, and what a tile is expected to cost: opening + nucleus * nuclei.

    unit, target: of the price. nuclei: a labelled tile has on the average. tile: price of one that the strategy asks
    for, a first estimate. Nuclei of a tile: the mean of `nuclei` and what `detector` finds there from `score` on, for a
    young detector counts far too few or too many, and labelled tiles are others.
    """

    unit: str
    target: float
    opening: float
    nucleus: float
    nuclei: float
    tile: float
    detector: str = "target"
    score: float = 0.3


def fill_query(strategy: Strategy, context: QueryContext, purse: Purse) -> Query:
    """The tiles of `strategy` that cost nearest to `purse.target`, one at least; `context.budget` is not read.

    Its scores have a column "expected_<unit>", the price of each tile that was looked at.

    Raises:
        PoolExhausted: no tile is left. LedgerError: the strategy breaks its contract.
    """
    require_pool(context)
    prices: dict[str, float] = {}
    whole, short, enough = len(context.pool), 0, len(context.pool) + 1
    size = round(purse.target / purse.tile) if purse.tile > 0 else whole
    size = min(max(size, 1), whole)
    best: tuple[Selection, list[str]] | None = None
    for _ in range(MOST_QUESTIONS):
        asked = replace(context, budget=size)
        selection = check_selection((yield from strategy.select(asked)), asked)
        new = tuple(key for key in selection.selected if key not in prices)
        if new and purse.nucleus:
            table = yield Detections(over=new, detector=purse.detector)
            found = {key: count_nuclei(table[key], score_thresh=purse.score) for key in new}
            prices |= {k: purse.opening + purse.nucleus * (purse.nuclei + n) / 2 for k, n in found.items()}
        else:
            prices |= dict.fromkeys(new, purse.opening)
        taken, spent, reached = fill(selection.selected, prices.__getitem__, spent=0.0, price=purse.target)
        if reached or enough > whole:
            best = selection, taken
        if reached:
            # Only what keeps candidates chooses otherwise when it is asked for fewer.
            enough = size
            keeps = len(selection.selected) < len(selection.candidates) < whole
            size = max(len(taken), short + 1, 1) if keeps else enough
        else:
            short = size
            grown = math.ceil(size * purse.target / spent) if spent > 0 else whole
            size = min(max(grown, short + 1), whole, enough - 1)
        if not short < size < enough:
            break
    assert best is not None
    selection, taken = best
    selected = tuple(taken) or selection.selected[:1]
    expected = round(sum(prices[key] for key in selected), 3)
    return replace(
        selection,
        selected=selected,
        scores={**selection.scores, f"expected_{purse.unit}": prices},
        reasons={key: selection.reasons[key] for key in selected if key in selection.reasons},
        price={"unit": purse.unit, "target": round(purse.target, 3), "expected": expected},
    )


def count_nuclei(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> int:
    """Nuclei among detections, boxes (B, 4) and scores (B,), from a score on: boxes with IoU .5 or more are one."""
    scores = np.asarray(detections["scores"], dtype=np.float64)
    found = scores >= score_thresh
    return len(one_box_a_nucleus(np.asarray(detections["boxes"])[found], scores[found]))
