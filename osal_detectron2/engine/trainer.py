"""Active learning as one Detectron2 training, from a config."""

import torch
from detectron2.modeling import build_model

from ..core.run_config import YAML
from ..data.round_loader import seeded
from ..modeling.optimizer import build_osal_optimizer
from .round_trainer import RoundTrainer
from .session import Session


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
