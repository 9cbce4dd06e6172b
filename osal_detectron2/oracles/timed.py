"""The tiles of a run whose time was measured, for the cost model (core/cost_fit.py)."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from ..core.cost_fit import MIN_TILES, PRICES, TimedTile, fit_cost, fit_each
from ..core.labels import Work
from ..exchange.batch import Request
from .answers import Answer, Answers
from .work import work_of


def timed_tiles(run_folder: str | Path) -> list[TimedTile]:
    """Every answer that came with a time (Label Studio's `lead_time`), of all batches, in order; the latest of each
    annotator for a tile. Raises DataError or LedgerError for a damaged batch.
    """
    tiles = []
    for query in sorted(Path(run_folder).glob("rounds/*/query")):
        request = Request.read(query)
        if request is None:
            continue
        latest = {
            (event.tile, event.labels.annotator): event
            for event in Answers.read(query, request.batch).events
            if isinstance(event, Answer) and event.tile in request.tiles
        }
        for (key, annotator), answer in latest.items():
            if answer.seconds is not None:
                drafts, labels = request.tiles[key].prelabels, answer.labels
                work = work_of(drafts, labels) or Work(marked=len(labels.boxes))
                tiles.append(TimedTile(annotator, answer.seconds, work))
    return tiles


def describe_cost(run_folder: str | Path) -> str:
    """What the measured times of a run say that annotation costs, of each annotator and of all, as text."""
    timed = timed_tiles(run_folder)
    if not timed:
        return "no answer of this run came with a time; of the tools that are read, Label Studio measures one"
    together = fit_cost(timed)
    lines = []
    for name, fit in (*fit_each(timed).items(), ("all", together)):
        if fit is None:
            number = sum(name in ("all", tile.annotator) for tile in timed)
            lines.append(f"{name}: {number} timed tiles, and a fit needs {MIN_TILES}")
            continue
        lines.append(f"{name}, from {fit.tiles} timed tiles, seconds with 95 % interval:")
        for price, value, low, high in zip(PRICES, astuple(fit.cost), astuple(fit.low), astuple(fit.high)):
            told = f"{low:.1f} to {high:.1f}" if price in fit.fitted else "assumed; too few tiles have any"
            lines.append(f"  {price.replace('_', ' '):18s} {value:5.1f}  ({told})")
    if together is not None:
        keys = [
            f"OSAL.ORACLE.SECONDS_{price.upper()} {v:.1f}" for price, v in zip(PRICES, astuple(together.cost))
        ]
        lines.append("as config: " + " ".join(keys))
    return "\n".join(lines)
