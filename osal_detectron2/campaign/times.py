"""What the tool measured: minutes that were spent, and what labelling costs by them."""

from dataclasses import astuple

from ..core.annotation_cost import AnnotationCost
from ..core.cost_fit import PRICES, CostFit, TimedTile, fit_cost
from ..core.ledger import Ledger
from ..oracles.timed import timed_tiles
from .folder import FIRST_RECORD, TEST_RECORD, Campaign


def timed(campaign: Campaign) -> list[TimedTile]:
    """Every answer of the campaign that came with a time. Raises DataError or LedgerError for a damaged record."""
    folders = [campaign.folder / FIRST_RECORD, campaign.folder / TEST_RECORD]
    if Ledger.exists(campaign.run):
        folders.append(campaign.run)
    return [tile for folder in folders for tile in timed_tiles(folder)]


def cost_so_far(campaign: Campaign) -> AnnotationCost:
    """The measured prices, or the assumed ones."""
    fit = fit_cost(timed(campaign))
    return AnnotationCost() if fit is None else fit.cost


def describe_times(campaign: Campaign) -> str:
    """Minutes spent so far and the prices, in words; "" where no tool measured any."""
    tiles = timed(campaign)
    if not tiles:
        return ""
    spent = f"{sum(tile.seconds for tile in tiles) / 60:.0f} minutes measured on {len(tiles)} tiles"
    fit: CostFit | None = fit_cost(tiles)
    if fit is None:
        return f"{spent}; too few to say what a tile and a nucleus take"
    prices = "; ".join(
        f"{name.removeprefix('per_')} {value:.1f} s ({low:.1f} to {high:.1f})"
        for name, value, low, high in zip(PRICES, astuple(fit.cost), astuple(fit.low), astuple(fit.high))
        if name in fit.fitted
    )
    return f"{spent}: {prices}, with 95 % intervals"
