"""One hook owns the whole passage from one round to the next."""

import logging
import os
import random
import time
from collections.abc import Callable, Collection

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..core.errors import ConfigError
from ..core.seeding import derive_seed
from ..dist import broadcast, on_main
from ..modeling.detectors import Detectors
from ..scoring.pool import check_needs
from .batches import BatchesOfRound
from .checkpoint import AtomicCheckpointer
from .protocol import check_trainer, part_of
from .round_steps import RoundSteps
from .self_training import SelfTraining

BOUNDARY = "boundary"  # the checkpoint at the end of the latest round
INITIAL_WEIGHTS = "initial_weights.pth"


class ActiveLearningHook(HookBase):
    """Runs active learning inside any Detectron2 trainer's one `train()`.

    At the last iteration of a round: checkpoint, evaluate, query, annotate, commit, and start the next round with fresh
    weights, optimizer state and data. Register it after the LR scheduler and before the writers. All that it does is
    a function of (iteration, ledger, seed), so a run that was killed at any instant goes on as if it had not been.

    Args:
        steps: evaluate, query, annotate and commit.
        checkpointer: writes the boundary checkpoint, restores the initial weights.
        make_loader: (records, round_index, first_iteration, iterations) -> the loader of that round.
        seed: of the run. weights_per_round: "initial" or "continue".
        keep_rounds: rounds whose detector is written to round_<r>.pth; -1 means all. recipe: round index -> what that
            detector follows from (engine/recipe.py), written along.
        batches_per_iteration: batches that one step of the trainer draws; those of `make_loader` come in this number.
        begin: called before the first thing is written, once nothing is left that could be refused.
        self_training: adds pool tiles to the batches; None: there are none (OSAL.SEMI).
    """

    def __init__(
        self,
        steps: RoundSteps,
        *,
        checkpointer: AtomicCheckpointer,
        make_loader: Callable,
        seed: int,
        weights_per_round: str = "initial",
        keep_rounds: Collection[int] = (),
        recipe: Callable[[int], dict] = lambda round_index: {"round": round_index},
        batches_per_iteration: int = 1,
        begin: Callable[[], None] = lambda: None,
        self_training: SelfTraining | None = None,
    ) -> None:
        if batches_per_iteration < 1:
            raise ConfigError(f"batches_per_iteration is {batches_per_iteration}: give 1 or more")
        self.steps, self.checkpointer, self.make_loader = steps, checkpointer, make_loader
        self.seed, self.weights_per_round = seed, weights_per_round
        self.keep_rounds, self.recipe = frozenset(keep_rounds), recipe
        self.batches_per_iteration, self.begin = batches_per_iteration, begin
        self.self_training = self_training
        self.logger = logging.getLogger(__name__)
        self._round_begun = time.perf_counter()

    @property
    def schedule(self):
        return self.steps.schedule

    def before_train(self) -> None:
        hooks = sum(isinstance(h, ActiveLearningHook) for h in getattr(self.trainer, "_hooks", []))
        check_trainer(self.trainer, self.checkpointer, schedule=self.schedule, hooks_of_rounds=hooks)
        check_needs(self.steps.strategy, self.trainer.model)
        self.steps.check_reached(self.trainer.start_iter)
        self.begin()
        path = self._initial_weights()
        if self.trainer.start_iter == 0:
            on_main(self.checkpointer.save_initial, path)
        self.steps.initialize()
        completed = self.trainer.start_iter
        ended = self.schedule.is_boundary(completed) if completed else None
        if ended is not None:
            self._pass_boundary(ended, iteration=completed - 1)
        else:
            round_index, start, _ = self.schedule.locate(completed)
            self._begin_round(round_index, first_iteration=completed - start)

    def before_step(self) -> None:
        # RoI and anchor sampling draw from the global streams: seeding each step makes a resumed step equal.
        seed = derive_seed(self.seed, "step", self.trainer.iter, comm.get_rank()) % 2**32
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if (
            self.self_training
        ):  # before and not after a step: a checkpoint then holds the teacher that comes with it
            self.self_training.teacher.update(self.trainer.iter - self._round_start)
        self.batches.begin_step()

    def after_step(self) -> None:
        self.batches.end_step()
        ended = self.schedule.is_boundary(self.trainer.iter + 1)
        if ended is None:
            return
        seconds = time.perf_counter() - self._round_begun
        self.steps.add_seconds(ended, "train", seconds)
        self._same_buffers()
        self.keep_round(ended)
        self.checkpointer.save(BOUNDARY, iteration=self.trainer.iter)
        self._pass_boundary(ended, iteration=self.trainer.iter)

    def _pass_boundary(self, ended: int, *, iteration: int) -> None:
        metrics = self.steps.finish_round(ended, self.trainer.model, iteration=iteration)
        self.trainer.model.train()
        storage = getattr(self.trainer, "storage", None)
        if storage is not None:
            storage.put_scalars(
                smoothing_hint=False,
                **{f"al/{k}": v for k, v in metrics.get("bbox", {}).items()},
                **{f"al/{k}": v for k, v in metrics.get("open_set", {}).items() if k == "A-OSE"},
                **{"al/labelled_tiles": metrics["labelled_tiles"]},
            )
        if ended < self.steps.last_round:
            self._begin_round(ended + 1, first_iteration=0)

    def _begin_round(self, round_index: int, *, first_iteration: int) -> None:
        length = self.schedule.iterations(round_index)
        self._round_start = self.schedule.start(round_index)
        fresh = first_iteration == 0 and (round_index == 0 or self.weights_per_round == "initial")
        if first_iteration == 0 and round_index > 0:
            if fresh:
                self.checkpointer.load_initial(self._initial_weights())
            part_of(self.trainer, "optimizer").state.clear()
        batches = self.batches_per_iteration  # modules count the batches that they see
        Detectors(self.trainer.model).begin_round(
            round_iters=length * batches, step=first_iteration * batches, fresh=fresh
        )
        if self.self_training:
            self.self_training.begin_round(first_iteration=first_iteration)
        records = self.steps.training_records()
        loader = self.make_loader(records, round_index, first_iteration, length)
        batches = self.batches = BatchesOfRound(loader, per_iteration=self.batches_per_iteration)
        part_of(self.trainer, "reset_data_loader")(lambda: batches)
        self.logger.info(
            "round %d of %d, iteration %d of %d: training on %d labelled tiles",
            round_index,
            self.steps.last_round,
            first_iteration,
            length,
            len(records),
        )
        self._round_begun = time.perf_counter()

    def keep_round(self, ended: int) -> None:
        """Write round_<ended>.pth if asked for; before the boundary checkpoint, so that a kill cannot skip it."""
        if not self.keep_rounds & {ended, -1}:
            return
        recipe = self.recipe(ended)  # collective
        path = os.path.join(self.checkpointer.save_dir, f"round_{ended}.pth")
        on_main(
            lambda: self.checkpointer.save_round(
                path,
                recipe=recipe,
                train_seconds=self.steps.timing(ended).get("train", 0.0),
            )
        )

    def _initial_weights(self) -> str:
        return os.path.join(self.checkpointer.save_dir, INITIAL_WEIGHTS)

    def _same_buffers(self) -> None:
        """DDP leaves BatchNorm statistics different on each rank; a pool scored in shards needs them equal."""
        if comm.get_world_size() == 1:
            return
        model = Detectors(self.trainer.model).model
        values = broadcast({n: b.cpu() for n, b in model.named_buffers()})
        for name, buffer in model.named_buffers():
            buffer.copy_(values[name])
