"""The batches of a round, as many in an iteration as the trainer announced."""

from collections.abc import Iterable, Iterator

from ..core.errors import ConfigError


class BatchesOfRound:
    """Iterates over the loader of a round, and lets each iteration draw `per_iteration` batches, no more and no fewer.

    What an iteration trains on then follows from its number, also after a resume. `iter` of it twice goes on.
    """

    def __init__(self, loader: Iterable[list[dict]], *, per_iteration: int) -> None:
        self.loader, self.per_iteration = loader, per_iteration
        self._batches: Iterator[list[dict]] | None = None
        self._drawn = self._allowed = 0

    def begin_step(self) -> None:
        """An iteration begins: `per_iteration` batches may be drawn."""
        self._allowed += self.per_iteration

    def end_step(self) -> None:
        """An iteration ends. Raises ConfigError if it left batches over."""
        if left := self._allowed - self._drawn:
            raise ConfigError(
                f"the trainer drew {self.per_iteration - left} of the {self.per_iteration} batches of an iteration: "
                "give session.hook(..., batches_per_iteration=N) the number that its step draws "
                "(docs/plug_in_hook.md)"
            )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> "BatchesOfRound":
        return self

    def __next__(self) -> list[dict]:
        """The next batch. Raises ConfigError for one more than the iteration has."""
        if self._drawn == self._allowed:
            raise ConfigError(
                f"the trainer draws more than {self.per_iteration} batch{'es' * (self.per_iteration > 1)} in an "
                "iteration: give session.hook(..., batches_per_iteration=N) the number that its step draws, and let "
                "nothing draw ahead, which DATALOADER.NUM_WORKERS does (docs/plug_in_hook.md)"
            )
        if self._batches is None:
            self._batches = iter(self.loader)
        self._drawn += 1
        return next(self._batches)
