"""What a query of a run with a budget in nuclei or seconds may spend, and what was spent: functions of the record.

With a budget of tiles there is nothing to reckon, and nothing of this is written.
"""

from collections.abc import Mapping

from ..core.budget import SECONDS, TILES, Budget, spent_so_far
from ..core.cost_fit import fit_cost
from ..core.labels import TileLabels
from ..core.ledger import Ledger
from ..oracles.cost import mean_nuclei
from ..oracles.timed import timed_tiles
from ..strategies.fill_query import Purse


def purse_of(
    ledger: Ledger, budget: Budget, round_index: int, *, two_detectors: bool, score: float
) -> Purse | None:
    """What the query of this round may spend; None with a budget of tiles.

    Seconds are expected by what the run's own answers took, where enough of them were timed, else by the config.
    two_detectors: the auxiliary, which knows unknown nuclei, too, says how many there are; detections from `score` on.
    """
    if budget.unit == TILES:
        return None
    labels, commits = ledger.labels(), ledger.commits()
    fit = (
        fit_cost(timed_tiles(ledger.folder), default=budget.cost, samples=1)
        if budget.unit == SECONDS
        else None
    )
    cost = fit.cost if fit else budget.cost
    opening, nucleus = budget.prices(cost, of_nucleus=cost.of_nucleus(labels.values()))
    mean = mean_nuclei(labels.values())
    nuclei = budget.nuclei_per_tile if mean is None else mean
    last = next((commit["selected"] for commit in reversed(commits) if commit["selected"]), [])
    # A strategy asks for tiles like those of before, and they cost as much.
    like = budget.true_price(labels[key] for key in last) / len(last) if last else 0.0
    return Purse(
        unit=budget.unit,
        target=budget.target(round_index, spent=spent_so_far(commits)),
        opening=opening,
        nucleus=nucleus,
        nuclei=nuclei,
        tile=like or opening + nucleus * nuclei,
        detector="auxiliary" if two_detectors else "target",
        score=score,
    )


def price_of_init(budget: Budget, tiles: int) -> dict | None:
    """Of the initial set, before anything is labelled, as `Selection.price`; None with a budget of tiles."""
    if budget.unit == TILES:
        return None
    expected = round(tiles * budget.price_of_a_tile, 3)
    return {"unit": budget.unit, "target": round(budget.init, 3), "expected": expected}


def cost_of_commit(budget: Budget, selection: Mapping, labels: Mapping[str, TileLabels]) -> dict | None:
    """What commit.json says of the price: also what the labels have truly cost; None with a budget of tiles."""
    if budget.unit == TILES:
        return None
    true = round(budget.true_price(labels.values()), 3)
    return {**selection.get("cost", {"unit": budget.unit}), "true": true}
