"""Drives a strategy's generator: rank 0 decides, all ranks run the passes."""

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.utils import comm

from ..dist import on_main
from ..strategies import Pass, QueryContext, Selection, Strategy, check_selection
from ..strategies.fill_query import Purse, fill_query
from .box_set import box_set
from .found import found_on
from .pool import PoolScorer, Table
from .prototypes import refitted_prototypes


@dataclass(frozen=True)
class Answer:
    """The tiles that a strategy chose, the forward passes that this took, in tiles, and detections on some of them."""

    selection: Selection
    passes: Mapping[str, int]
    found: Mapping[str, dict]


def answer_query(
    strategy: Strategy,
    context: QueryContext,
    scorer: PoolScorer,
    *,
    labelled: Sequence[str],
    refit: bool,
    shown: int = 0,
    purse: Purse | None = None,
) -> Answer:
    """Let `strategy` select by prototypes that are refitted to all labelled nuclei, if it reads them. Collective.

    shown: tiles, from the first of the selection on, whose detections are wanted, see `found_on`. purse: what may be
    spent; None: `context.budget` tiles.
    """
    prototypes = "dist_known" in strategy.needs.get("auxiliary", ())
    known = context.known_classes
    with refitted_prototypes(scorer, labelled, num_known=len(known), enabled=refit and prototypes):
        selection = run_query(strategy, context, scorer, purse)
        passes = dict(scorer.passes)  # pictures are no part of what a query costs
        keys = selection.selected[:shown]
        at = {"seed": context.seed, "round_index": context.round_index}
        found = found_on(scorer, keys, known, prototypes=prototypes, **at)
    logging.getLogger(__name__).info("forward passes of this query: %s", passes or "none")
    return Answer(selection, passes, found)


def run_query(
    strategy: Strategy, context: QueryContext, scorer: PoolScorer, purse: Purse | None = None
) -> Selection:
    """Let `strategy` select from `context`, answering its passes with `scorer`. Collective.

    Raises whatever the strategy raises, on every rank; LedgerError if it breaks its contract.
    """
    dialogue = None
    if comm.is_main_process():
        dialogue = strategy.select(context) if purse is None else fill_query(strategy, context, purse)
    table: Table | None = None
    while True:
        message = on_main(_advance, dialogue, table)
        if isinstance(message, Selection):
            return check_selection(message, context) if purse is None else message
        table = scorer.run(message, seed=context.seed, round_index=context.round_index)
        table = box_set(message, table, strategy, context, scorer)


def _advance(dialogue: Generator[Pass, Any, Selection], table: Table | None) -> Pass | Selection:
    try:
        return dialogue.send(table)
    except StopIteration as stop:
        return stop.value
