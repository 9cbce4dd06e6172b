"""--dry-run: what would be queried next, why, and what it would cost."""

from detectron2.utils import comm

from ..core.budget import price_in_words
from ..dist import on_main
from ..oracles.cost import Cost, expected_nuclei, mean_nuclei
from ..scoring.pool import check_needs
from ..strategies import Selection


def preview_next_round(trainer) -> Selection | None:
    """Print and return the selection that the next query would make with the loaded weights. Writes nothing.

    Without a run in OUTPUT_DIR this is the initial draw. None if there is nothing left to query.
    """
    steps = trainer.steps
    last = on_main(lambda: steps.ledger.last_committed if steps.ledger else None)
    if last is None:
        return _show(steps, "the initial set", steps.initial_selection(), per_tile=None)
    round_index = 0 if last == "init" else last + 1
    if on_main(lambda: last == len(steps.ledger.header["plan"]) - 1 < steps.last_round):
        round_index = last  # what OSAL.BUDGET.NUM_QUERIES would add to a finished run
    if round_index >= steps.last_round:
        return _show(steps, "nothing: all queries of this run are made", None, per_tile=None)
    check_needs(steps.strategy, trainer.model)
    per_tile = mean_nuclei(steps.labels().values())
    completed, end = trainer.start_iter, trainer.schedule.boundaries[round_index]
    title = f"the query of round {round_index}"
    if completed < end:
        title += f" (as of iteration {completed}; the round is trained until {end})"
    return _show(steps, title, steps.preview(round_index, trainer.model), per_tile=per_tile)


def _show(steps, title: str, selection: Selection | None, *, per_tile: float | None) -> Selection | None:
    if not comm.is_main_process():
        return selection
    print(f"dry run, nothing is written: {title}")
    if selection is None:
        return None
    detected = selection.scores.get("n_detected", {})
    for rank, key in enumerate(selection.selected, start=1):
        print(f"{rank:5d}  {key}  {selection.reasons.get(key, '')}")
    nuclei = expected_nuclei(selection.selected, per_tile=per_tile, detected=detected)
    seconds = {"seconds_per_tile": steps.cost.per_tile, "seconds_per_nucleus": steps.cost.per_nucleus}
    print(f"cost: {Cost.of(list(nuclei.values()), **seconds)}")
    if selection.price is not None:
        print(f"budget: {price_in_words(selection.price)}")
    return selection
