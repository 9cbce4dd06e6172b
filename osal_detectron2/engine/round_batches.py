"""The batches of a round for a model: labelled tiles as it wants them, and tiles of the pool if it has a teacher."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
from detectron2.utils import comm

from ..core.seeding import derive_seed
from ..data.mapper import TileMapper
from ..data.round_loader import build_round_loader
from ..modeling.detectors import Detectors
from ..modeling.unknown import training_labels
from .plan import Plan
from .self_training import SelfTraining, TaughtBatches


@dataclass(eq=False)
class RoundBatches:
    """Callable (records, round_index, first_iteration, iterations) -> batches first_iteration .. iterations-1.

    Args:
        model: as it is trained.
        plan: classes of the data. pool_records: tells the tiles that nobody has labelled.
        make_mapper: (train=bool, with_labels=bool) -> TileMapper.
        batch_size, pool_tiles: tiles of an iteration, over all processes; `pool_tiles` 0: as many.
        batches_per_iteration: batches that the tiles of an iteration come in.
        self_training: the teacher, or None for labelled tiles alone.
    """

    model: torch.nn.Module
    _: KW_ONLY
    plan: Plan
    pool_records: Callable[[], Sequence[dict]]
    make_mapper: Callable[..., TileMapper]
    seed: int
    batch_size: int
    pool_tiles: int = 0
    num_workers: int = 0
    batches_per_iteration: int = 1
    self_training: SelfTraining | None = None

    def __call__(
        self, records: Sequence[dict], round_index: int, first_iteration: int, iterations: int
    ) -> Iterable[list[dict]]:
        build = partial(
            build_round_loader,
            round_index=round_index,
            first_iteration=first_iteration,
            iterations=iterations,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            num_workers=self.num_workers,
            batches_per_iteration=self.batches_per_iteration,
        )
        labelled = build(
            self._annotated(records),
            self.make_mapper(train=True, with_labels=True),
            seed=self.seed,
            batch_size=self.batch_size,
        )
        if self.self_training is None or not (pool := self.pool_records()):
            return labelled
        mapper, size = self.make_mapper(train=True, with_labels=False), self.pool_tiles or self.batch_size
        return TaughtBatches(
            self.self_training,
            labelled,
            build(pool, mapper, seed=derive_seed(self.seed, "pool"), batch_size=size),
            round_index=round_index,
            first_batch=first_iteration * self.batches_per_iteration,
            length=iterations * self.batches_per_iteration,
        )

    def _annotated(self, records: Sequence[dict]) -> Sequence[dict]:
        detectors = Detectors(self.model)
        # A plain detector would take class K for a positive in its RPN: unknown nuclei are not annotated for it, unless
        # it learns them.
        if detectors.open_set_inputs and not detectors.num_unknown:
            return records
        return training_labels(
            records,
            known=len(self.plan.known_classes),
            unknown_classes=self.plan.unknown_classes,
            outputs=detectors.num_unknown,
        )
