"""Active learning from a LazyConfig (docs/lazy_config.md).

Model, optimizer and augmentations are objects of the config. `osal` holds the keys of the node OSAL in config.py, but
for those that say how a model is built: these are arguments of the model.
"""

from collections.abc import Callable
from functools import partial
from pydoc import locate

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.solver.build import maybe_add_gradient_clipping
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..core.errors import ConfigError
from ..core.ledger import Ledger
from ..core.run_config import LAZY
from ..data.mapper import TileMapper
from ..data.round_loader import seeded
from ..dist import on_main
from ..merge_config import merge_nested
from ..modeling.detectors import Detectors
from ..modeling.meta_arch import OSALRCNN, is_coupled
from ..renamed import adopt_old_keys, renamed
from ..strategies import Strategy, get_strategy
from .fingerprint import free_keys, matching_keys
from .lazy_config import DEFAULTS, config_text, load_config, plain
from .model_fit import check_model
from .plan import build_plan
from .resolve import check_choices, check_machine, default_config
from .session import Session
from .trainer import RoundTrainer

# Free to differ between the parts of one run.
_FREE = ("train.output_dir", "train.device", "train.checkpointer.", "train.log_period", "train.cudnn_benchmark",
         "dataloader.num_workers", "dataloader.datasets.")  # fmt: skip
# Keys of OSAL that a lazy config gives as arguments of what they configure.
_ARGUMENTS = {
    "AUXILIARY.SCORE_THRESH": "model.auxiliary.roi_heads.box_predictor.test_score_thresh",
    "AUXILIARY.NMS": "model.auxiliary.roi_heads.box_predictor.nms",
    "AUXILIARY.": "model.auxiliary", "EVIDENCE.": "model", "PROTOTYPE.": "model", "LL4AL.": "model",
    "DATA.UNKNOWN_": "model.unknown_policy", "DATA.FLIPS": "dataloader.train_augmentations",
}  # fmt: skip


def osal_settings(cfg: DictConfig) -> CfgNode:
    """A config with the node OSAL that `cfg.osal` describes, and the few other keys that `build_plan` reads.

    Raises ConfigError for unknown keys, and for keys that are arguments of the model here.
    """
    settings = default_config()
    given = OmegaConf.to_container(cfg.osal, resolve=True)
    adopt_old_keys({"OSAL": given})
    for key in matching_keys(given, free=("PROTOTYPE.REFIT",)):
        if owner := next((v for k, v in _ARGUMENTS.items() if key.startswith(k)), None):
            raise ConfigError(f"osal.{key}: in a lazy config this is an argument of {owner}; set it there")
    merge_nested(settings, {"OSAL": given}, where="osal: ")
    check_choices(settings.OSAL)
    settings.SOLVER.IMS_PER_BATCH = cfg.dataloader.batch_size
    names = cfg.dataloader.datasets
    settings.DATASETS.TRAIN = (names.train,) if names.train else ()
    settings.DATASETS.TEST = (names.test,) if names.test else ()
    return settings


def model_config(cfg: DictConfig, strategy: Strategy | type[Strategy]) -> DictConfig:
    """`cfg.model`, or only its target where the strategy has no use for the auxiliary, as with a YAML config."""
    target = cfg.model.get("_target_")
    two = (locate(target) if isinstance(target, str) else target) is OSALRCNN
    coupled = two and is_coupled(
        unknown_policy=cfg.model.get("unknown_policy", "drop"),
        auxiliary_backbone=cfg.model.get("auxiliary_backbone", "own"),
    )
    return cfg.model if not two or coupled or "auxiliary" in strategy.needs else cfg.model.target


class LazyActiveLearningTrainer(RoundTrainer):
    """`ActiveLearningTrainer` from a LazyConfig.

    Args:
        cfg: as `load_config` returns it. Not changed.
        resume: allow a run that is already in train.output_dir. read_only: write nothing, for evaluation and previews.
    """

    def __init__(self, cfg: DictConfig, *, resume: bool = False, read_only: bool = False) -> None:
        settings = osal_settings(cfg)
        train, loader, folder = cfg.train, cfg.dataloader, cfg.train.output_dir
        keys = ("train.device", "train.amp.enabled", "train.init_checkpoint")
        check_machine(device=train.device, amp=train.amp.enabled, weights=train.init_checkpoint, keys=keys)
        plan = build_plan(settings)
        shaping = plan.strategy
        if read_only and (
            header := on_main(lambda: Ledger.open(folder).header if Ledger.exists(folder) else None)
        ):
            # A preview with another strategy looks through the detectors that the run has.
            shaping = get_strategy(header["strategy"])
        node = model_config(cfg, shaping)
        with seeded(settings.OSAL.SEED, "weights"):
            model = _made(node, "model").to(train.device)
        if shaping is plan.strategy:
            check_model(model, plan)
        optimizer_node = cfg.optimizer.copy()
        optimizer_node.params.model = model
        optimizer = _made(optimizer_node, "optimizer")
        settings.SOLVER.CLIP_GRADIENTS.merge_from_other_cfg(
            CfgNode({k.upper(): v for k, v in train.clip_gradients.items()})
        )
        session = Session(
            plan,
            settings.OSAL,
            output_dir=folder,
            config=flat_config(cfg, settings, two_detectors=Detectors(model).auxiliary is not None),
            make_mapper=_mapper_factory(cfg, cache={} if settings.OSAL.DATA.CACHE_IMAGES else None),
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            max_dets=cfg.test.max_dets,
            front=LAZY,
            config_text=partial(config_text, cfg),
        )
        session.open(resume=resume, read_only=read_only)
        torch.backends.cudnn.benchmark = train.cudnn_benchmark
        super().__init__(
            session,
            model,
            maybe_add_gradient_clipping(settings, optimizer),
            output_dir=folder,
            weights=train.init_checkpoint,
            gamma=cfg.lr.gamma,
            warmup_iters=cfg.lr.warmup_iters,
            warmup_factor=cfg.lr.warmup_factor,
            amp=train.amp.enabled,
            checkpoint_period=train.checkpointer.period,
            log_period=train.log_period,
            round_0=settings.OSAL.SCHEDULE.ROUND_0,
        )


def flat_config(cfg: DictConfig, settings: CfgNode, *, two_detectors: bool) -> dict:
    """Flat {key: value} of everything that a resumed run must not change; OSAL.* as with a YAML config."""
    free = free_keys(settings.OSAL) + tuple(f"OSAL.{key}" for key in _ARGUMENTS if key != "PROTOTYPE.")
    ours = matching_keys({"OSAL": settings.OSAL}, free=free)
    ours = {k: v for k, v in ours.items() if not k.startswith("OSAL.PROTOTYPE.") or k.endswith(".REFIT")}
    nodes = ("model", "optimizer", *(name for name in DEFAULTS if name != "osal"))
    rest = plain({name: OmegaConf.to_container(cfg[name], resolve=True) for name in nodes})
    built = "target and auxiliary" if two_detectors else "target"  # not all of cfg.model, for some strategies
    return renamed({**ours, **matching_keys(rest, free=_FREE), "detectors": built})


def _made(node: DictConfig, name: str):
    try:
        return instantiate(node)
    except (TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from error


def _mapper_factory(cfg: DictConfig, *, cache: dict | None) -> Callable[..., TileMapper]:
    loader = cfg.dataloader

    def make(*, train: bool, with_labels: bool) -> TileMapper:
        augmentations = loader.train_augmentations if train else loader.test_augmentations
        return TileMapper(
            augmentations=list(instantiate(augmentations)),
            image_format=loader.image_format,
            with_labels=with_labels,
            cache=cache,
        )

    return make


__all__ = ["LazyActiveLearningTrainer", "flat_config", "load_config", "osal_settings"]
