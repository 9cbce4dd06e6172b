"""Drives a strategy's generator: rank 0 decides, all ranks run the passes."""

from detectron2.utils import comm

from ..dist import on_main
from ..strategies import Pass, QueryContext, Selection, Strategy, check_selection
from .pool import PoolScorer


def run_query(strategy: Strategy, context: QueryContext, scorer: PoolScorer) -> Selection:
    """Let `strategy` select from `context`, answering its passes with `scorer`. Collective.

    Raises whatever the strategy raises, on every rank; LedgerError if it breaks its contract.
    """
    dialogue = strategy.select(context) if comm.is_main_process() else None
    table = None
    while True:
        message = on_main(_advance, dialogue, table)
        if isinstance(message, Selection):
            return check_selection(message, context)
        table = scorer.run(message, seed=context.seed, round=context.round)


def _advance(dialogue, table) -> Pass | Selection:
    try:
        return dialogue.send(table)
    except StopIteration as stop:
        return stop.value
