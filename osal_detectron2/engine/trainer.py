"""The training of a session as a Detectron2 trainer: with explicit arguments, and from a config."""

import json
import logging
import os
import weakref

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.engine.defaults import default_writers
from detectron2.modeling import build_model
from detectron2.utils import comm

from ..core.round_files import record_timing
from ..core.run_config import YAML
from ..data.round_loader import seeded
from ..dist import on_main
from ..modeling.optimizer import build_osal_optimizer
from ..scoring.pool import check_needs
from .checkpoint import AtomicCheckpointer
from .hooks import BOUNDARY, INITIAL_WEIGHTS
from .logs import ScreenWriter, starting_weights
from .recipe import check_recipe
from .session import Session

FINAL = "model_final"  # the name that Detectron2's PeriodicCheckpointer gives to the last checkpoint


class RoundTrainer(TrainerBase):
    """Trains a model through all rounds of a session. A step is that of Detectron2's SimpleTrainer or AMPTrainer.

    Args:
        session: data, plan, strategy and ledger.
        model, optimizer: as built; the model is wrapped for DDP where there are several processes.
        output_dir: the session's.
        weights: checkpoint to start from, or "".
        gamma, warmup_iters, warmup_factor: of the learning rate, see `RoundLR`.
        amp: mixed precision. checkpoint_period: iterations between checkpoints within a round. log_period: between
            lines of the log.
        round_0: the round_0.pth of another run to start from, or "".

    `resume_or_load`, then `train`; in between `begin` makes sure that the run can work before it claims the folder.
    """

    def __init__(
        self,
        session: Session,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        output_dir: str,
        weights: str = "",
        gamma: float = 0.1,
        warmup_iters: int = 0,
        warmup_factor: float = 0.001,
        amp: bool = False,
        checkpoint_period: int = 500,
        log_period: int = 20,
        round_0: str = "",
    ) -> None:
        super().__init__()
        self.session, self.steps, self.schedule = session, session.steps, session.schedule
        self.output_dir, self.weights, self.round_0 = output_dir, weights, round_0
        self.checkpoint_period, self.log_period = checkpoint_period, log_period
        on_cpu = next(model.parameters()).device.type == "cpu"
        model = create_ddp_model(model, broadcast_buffers=False, **({"device_ids": None} if on_cpu else {}))
        # The hook brings the loader of the round that the run is in.
        self._trainer = (AMPTrainer if amp else SimpleTrainer)(model, [], optimizer)
        self.scheduler = session.lr_scheduler(
            optimizer, gamma=gamma, warmup_iters=warmup_iters, warmup_factor=warmup_factor
        )
        self.checkpointer = AtomicCheckpointer(model, output_dir, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, self.schedule.max_iter
        self.round_hook = session.hook(model, self.checkpointer)
        self._begun = False
        if not session.read_only:
            self.register_hooks(self.build_hooks())

    @property
    def model(self) -> torch.nn.Module:
        return self._trainer.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict:
        """Of a DefaultTrainer's form."""
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    def build_hooks(self) -> list:
        ret = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            ret.append(hooks.PeriodicCheckpointer(self.checkpointer, self.checkpoint_period, max_to_keep=2))
        ret.append(self.round_hook)
        return ret

    def build_writers(self) -> list:
        # Detectron2's ETA knows of the training alone, so it gets no end to reckon with.
        return [ScreenWriter(self), *default_writers(self.output_dir)]

    def begin(self) -> None:
        """Look once more at what could be refused, then begin or go on with the run. Collective.

        Nothing is written before it. `train` calls it; again it does nothing.
        """
        if self._begun:
            return
        check_needs(self.steps.strategy, self.model)
        self.steps.check_reached(self.start_iter)
        donor = self.checkpointer.read_round(self.round_0) if self.round_0 and self.start_iter == 0 else None
        if donor and (records := self.steps.initial_records()) is not None:
            check_recipe(self.round_0, donor["recipe"], self.session.recipe(0, records))
        self.session.begin()
        if self.start_iter < self.max_iter:
            on_main(self._reopen)
        if donor:
            self._adopt(donor)
        if comm.is_main_process():  # Detectron2's writers create files when they are built
            self.register_hooks([hooks.PeriodicWriter(self.build_writers(), period=self.log_period)])
        self._begun = True

    def _reopen(self) -> None:
        """model_final.pth goes where the run has got further rounds; first another checkpoint takes its place."""
        final = os.path.join(self.output_dir, f"{FINAL}.pth")
        if os.path.isfile(final):
            if self.checkpointer.has_checkpoint() and os.path.samefile(
                self.checkpointer.get_checkpoint_file(), final
            ):
                self.checkpointer.save(BOUNDARY, iteration=self.start_iter - 1)
            os.unlink(final)

    def train(self) -> None:
        """Run all rounds that are left. Raises AwaitingLabels (exit code 0) where people have to label first."""
        self.begin()
        super().train(self.start_iter, self.max_iter)
        # A kill between Detectron2's last periodic checkpoint and its final one leaves no step to write the latter.
        if comm.is_main_process() and not os.path.isfile(os.path.join(self.output_dir, f"{FINAL}.pth")):
            self.checkpointer.save(FINAL, iteration=self.max_iter - 1)

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the latest checkpoint, or the weights to start from. Writes nothing."""
        if self.weights or (resume and self.checkpointer.has_checkpoint()):
            self.checkpointer.resume_or_load(self.weights, resume=resume)
        else:
            logging.getLogger(__name__).info(starting_weights(self.session.config))
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1

    def _adopt(self, donor: dict) -> None:
        """Go to the end of round 0 by what another run kept of it; done again if a kill comes in between."""
        on_main(self.checkpointer.save_initial, os.path.join(self.output_dir, INITIAL_WEIGHTS))
        self.steps.initialize()
        check_recipe(self.round_0, donor["recipe"], self.session.recipe(0, self.steps.training_records()))
        self.checkpointer.load_round(donor)
        self.start_iter = self.iter + 1
        # What it cost the run that trained it.
        on_main(lambda: record_timing(self.steps.ledger.round_dir(0), train=donor["train_seconds"]))
        self.round_hook.keep_round(0)
        self.checkpointer.save(BOUNDARY, iteration=self.iter)

    def load_weights(self, *, resume: bool) -> None:
        """For a read-only trainer: the weights of the last checkpoint, or those to start from, and nothing else."""
        path = self.weights
        if resume and self.checkpointer.has_checkpoint():
            path = self.checkpointer.get_checkpoint_file()
        extra = self.checkpointer.load(path, checkpointables=[])
        self.start_iter = extra.get("iteration", -1) + 1
        if resume:
            self.steps.check_reached(self.start_iter)

    def evaluate_only(self) -> dict:
        """Evaluate the loaded weights on the test set and print the metrics as JSON; writes no file."""
        results = self.session.evaluate(self.model)
        if comm.is_main_process():
            print(json.dumps(results, indent=1))
        return results


class ActiveLearningTrainer(RoundTrainer):
    """A trainer whose data, schedule and hooks come from `cfg.OSAL`.

    Like `DefaultTrainer`, it is a default: a project with a trainer of its own registers the hook of a `Session`
    instead (docs/plug_in_hook.md).

    Args:
        cfg: with add_osal_config. Not changed; `self.cfg` is the resolved copy.
        resume: allow a run that is already in OUTPUT_DIR. read_only: write nothing, for evaluation and previews.
    """

    def __init__(self, cfg, *, resume: bool = False, read_only: bool = False) -> None:
        cfg = cfg.clone()
        session = Session.from_config(cfg, resume=resume, read_only=read_only, front=YAML)
        cfg.freeze()
        self.cfg = cfg
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        with seeded(cfg.OSAL.SEED, "weights"):
            model = build_model(cfg)
        super().__init__(
            session,
            model,
            build_osal_optimizer(cfg, model),
            output_dir=cfg.OUTPUT_DIR,
            weights=cfg.MODEL.WEIGHTS,
            gamma=cfg.SOLVER.GAMMA,
            warmup_iters=cfg.SOLVER.WARMUP_ITERS,
            warmup_factor=cfg.SOLVER.WARMUP_FACTOR,
            amp=cfg.SOLVER.AMP.ENABLED,
            checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
            round_0=cfg.OSAL.SCHEDULE.ROUND_0,
        )
