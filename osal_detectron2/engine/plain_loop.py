"""The hook in a training loop without a trainer, as in Detectron2's tools/plain_train_net.py."""

from collections.abc import Callable, Iterable, Iterator

import torch
from detectron2.utils.events import get_event_storage, has_event_storage

from .hooks import ActiveLearningHook


class _Loop:
    """What a hook sees of a trainer."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, start_iter: int) -> None:
        self.model, self.optimizer = model, optimizer
        self.start_iter = self.iter = start_iter
        self.batches: Iterator[list[dict]] = iter(())

    @property
    def storage(self):
        return get_event_storage() if has_event_storage() else None

    def reset_data_loader(self, make: Callable[[], Iterable]) -> None:
        self.batches = iter(make())


def batches_of_rounds(
    hook: ActiveLearningHook,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    start_iter: int = 0,
) -> Iterator[tuple[list[dict], int]]:
    """(batch, iteration) of all that is left of the rounds; takes the place of a data loader.

    The body of the loop does one training step, and saves if it likes. At the end of a round the hook then evaluates,
    queries and annotates, before the next batch comes. With `batches_per_iteration` N of the hook, N batches in a row
    have the same iteration, and the step belongs behind the last of them. Use it within an EventStorage.
    """
    loop = _Loop(model, optimizer, start_iter)
    hook.trainer = loop
    hook.before_train()
    for loop.iter in range(start_iter, hook.schedule.max_iter):
        hook.before_step()
        for _ in range(hook.batches_per_iteration):
            yield next(loop.batches), loop.iter
        hook.after_step()
    hook.after_train()
