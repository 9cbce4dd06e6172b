"""--dry-run: what would be queried next, why, and what it would cost."""

from statistics import mean

from detectron2.utils import comm

from ..dist import on_main
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
    if round_index >= steps.last_round:
        return _show(steps, "nothing: all queries of this run are made", None, per_tile=None)
    check_needs(steps.strategy, trainer.model)
    labels = steps.labels().values()
    per_tile = mean(len(t.boxes) for t in labels)
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
    if per_tile is None:
        print(f"{len(selection.selected)} tiles; the number of nuclei is known once some are labelled")
    else:
        nuclei = sum(detected.get(k, per_tile) for k in selection.selected)
        seconds = len(selection.selected) * steps.seconds_per_tile + nuclei * steps.seconds_per_nucleus
        size = f"{len(selection.selected)} tiles, about {nuclei:.0f} nuclei"
        print(f"cost: {size}, {seconds / 60:.0f} minutes of annotation")
    return selection
