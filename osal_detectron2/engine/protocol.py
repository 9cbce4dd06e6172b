"""What a trainer must have for the rounds to run in it (docs/plug_in_hook.md). Each lack is one error."""

from typing import Any

from detectron2.utils.events import has_event_storage

from ..core.errors import ConfigError
from ..core.schedule import RoundSchedule
from .checkpoint import AtomicCheckpointer

NEEDED = {
    "model": "the module that it trains",
    "iter": "the iteration that it is in, from 0 up",
    "start_iter": "the iteration that it begins with: 0, or the one after that of the checkpoint",
    "optimizer": "its state is cleared at the start of each round",
    "reset_data_loader": "the hook calls reset_data_loader(make) at the start of each round, and from then on batches "
    "come from iter(make())",
}
_SEE = "(docs/plug_in_hook.md, What a trainer must have)"


def part_of(trainer: Any, name: str) -> Any:
    """Attribute `name` of a trainer, or of the `_trainer` that a DefaultTrainer has inside; None if neither has it."""
    holders = (trainer, getattr(trainer, "_trainer", None))
    return next((getattr(h, name) for h in holders if hasattr(h, name)), None)


def check_trainer(
    trainer: Any, checkpointer: Any, *, schedule: RoundSchedule, hooks_of_rounds: int = 1
) -> None:
    """Raise ConfigError for what the rounds could not do in this trainer. Looks only."""
    kind = trainer.__class__.__name__  # of what a weak reference stands for
    if hooks_of_rounds > 1:
        raise ConfigError(
            f"{kind} has {hooks_of_rounds} ActiveLearningHooks; register one: Detectron2 keeps the state of hooks by "
            f"class name {_SEE}"
        )
    for name, why in NEEDED.items():
        if part_of(trainer, name) is None:
            raise ConfigError(f"{kind} has no {name}: {why}; add it {_SEE}")
    if not has_event_storage():
        raise ConfigError(
            f"{kind} trains outside an EventStorage, to which detectors and rounds report; put "
            f"`with EventStorage(start_iter):` around the loop {_SEE}"
        )
    if not isinstance(checkpointer, AtomicCheckpointer):
        raise ConfigError(
            f"the hook has a {type(checkpointer).__name__}: a kill would leave half a checkpoint, and the weights that "
            "every round starts from could not be kept; make it an osal_detectron2.engine.AtomicCheckpointer "
            f"{_SEE}"
        )
    if not checkpointer.save_dir:
        raise ConfigError(f"the checkpointer has no folder; make it with the OUTPUT_DIR of the run {_SEE}")
    last = getattr(trainer, "max_iter", schedule.max_iter)
    if last > schedule.max_iter:
        raise ConfigError(
            f"{kind} is to train up to iteration {last}, but the rounds end at {schedule.max_iter}; end there: "
            f"session.schedule.max_iter, which Session.from_config also writes into SOLVER.MAX_ITER {_SEE}"
        )
