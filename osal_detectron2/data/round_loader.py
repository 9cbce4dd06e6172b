"""Training batches of one round, as a pure function of (seed, round, iteration).

Position p of a round is tile permutation(p // n)[p % n] of n labelled tiles, augmented with a seed made from p. Batch
i holds positions i*B .. i*B+B-1, of which rank r takes its share. So a resumed run sees the same data as an
uninterrupted one, whatever the number of loader workers.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..core.errors import ConfigError
from ..core.seeding import derive_seed, generator


@contextmanager
def seeded(*parts) -> Iterator[None]:
    """Seed every global random stream from `parts` inside the block and restore it after."""
    seed = derive_seed(*parts) % 2**32
    kept = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.random.set_rng_state(kept[2])


class RoundDataset(Dataset):
    """Maps a position of the round to an augmented tile."""

    def __init__(
        self, records: Sequence[dict], mapper: Callable[[dict], dict], *, seed: int, round_index: int
    ) -> None:
        self.records, self.mapper, self.seed, self.round_index = list(records), mapper, seed, round_index

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of the tiles in an epoch."""
        return generator(self.seed, "order", self.round_index, epoch).permutation(len(self.records))

    def __getitem__(self, position: int) -> dict:
        epoch, place = divmod(position, len(self.records))
        record = self.records[self.order(epoch)[place]]
        with seeded(self.seed, "augment", self.round_index, position):
            return self.mapper(record)


class _Positions(Sampler):
    def __init__(self, positions: Sequence[int]) -> None:
        self.positions = positions

    def __iter__(self):
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def _as_list(batch: list) -> list:
    return batch


def build_round_loader(
    records: Sequence[dict],
    mapper: Callable[[dict], dict],
    *,
    seed: int,
    round_index: int,
    first_iteration: int,
    iterations: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    batches_per_iteration: int = 1,
) -> DataLoader:
    """Batches first_iteration .. iterations-1 of a round (0-based within the round), as lists of inputs.

    With `batches_per_iteration` N (gradient accumulation), the `batch_size` tiles of an iteration, over all processes,
    come as N lists, the same tiles in the same order.
    """
    if batch_size % (world_size * batches_per_iteration):
        parts = (
            f" and the {batches_per_iteration} batches of an iteration" if batches_per_iteration > 1 else ""
        )
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH: {batch_size} does not divide by the {world_size} processes{parts}"
        )
    share = batch_size // world_size
    positions = [
        iteration * batch_size + rank * share + j
        for iteration in range(first_iteration, iterations)
        for j in range(share)
    ]
    return DataLoader(
        RoundDataset(records, mapper, seed=seed, round_index=round_index),
        batch_size=share // batches_per_iteration,
        sampler=_Positions(positions),
        num_workers=num_workers,
        collate_fn=_as_list,
        # Its own stream: a new iterator draws a seed, and after a resume it is made in another iteration.
        generator=torch.Generator(),
    )
