"""Active learning from a LazyConfig (docs/lazy_config.md).

Model, optimizer and augmentations are objects of the config. `osal` holds the keys of the node OSAL in config.py, but
for those that say how a model is built: these are arguments of the model.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from pydoc import locate

import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.solver.build import maybe_add_gradient_clipping
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..core.errors import ConfigError
from ..core.ledger import Ledger
from ..data.mapper import TileMapper
from ..data.round_loader import seeded
from ..dist import on_main
from ..modeling.meta_arch import OSALRCNN, is_coupled
from ..renamed import adopt_old_keys
from ..strategies import Strategy, get_strategy
from .from_config import FREE_KEYS, build_plan, check_choices, check_machine, default_config, matching_keys
from .model_fit import check_model
from .round_trainer import RoundTrainer
from .session import Session

# What a config has besides the model and the optimizer, with the values for what it leaves out.
DEFAULTS = {
    "train": {
        "output_dir": "./output",
        "init_checkpoint": "",  # weights to start from
        "device": "cuda",
        "amp": {"enabled": False},
        "checkpointer": {"period": 500},
        "log_period": 20,
        "cudnn_benchmark": False,
        "clip_gradients": {"enabled": False, "clip_type": "norm", "clip_value": 1.0, "norm_type": 2.0},
    },
    "dataloader": {
        "datasets": {"train": "", "test": ""},  # registered names; empty with osal.DATA.*_JSON
        "batch_size": 4,  # over all processes
        "num_workers": 0,
        "image_format": "RGB",
        "train_augmentations": [],
        "test_augmentations": [],
    },
    "lr": {"gamma": 0.1, "warmup_iters": 0, "warmup_factor": 0.001},  # shape and steps: osal.SCHEDULE.LR*
    "test": {"max_dets": 300},
    "osal": {},
}
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


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config in a Python file, changed by `key=value` words, with DEFAULTS for what it leaves out.

    Raises ConfigError for a missing or broken file, an unknown key, and a word that is no key=value.
    """
    if not Path(path).is_file():
        raise ConfigError(f"--config-file {path}: no such file")
    try:
        cfg = LazyConfig.load(path)
    except Exception as error:  # whatever the Python file raises
        raise ConfigError(
            f"{path}: cannot be loaded, {type(error).__name__} ({' '.join(str(error).split())})"
        ) from error
    for name in ("model", "optimizer"):
        if name not in cfg:
            raise ConfigError(f"{path}: has no `{name}`; see configs/lazy/faster_rcnn_fpn.py")
    defaults = {k: v for k, v in OmegaConf.create(DEFAULTS).items()}
    for name, node in defaults.items():
        if name != "osal":
            _check_keys(cfg.get(name, {}), node, f"{name}.")
        cfg[name] = OmegaConf.merge(node, cfg.get(name, {}))
    for word in overrides:
        key = word.split("=")[0].lstrip("+~")
        if "=" not in word:
            raise ConfigError(f"{word}: give key=value, e.g. osal.STRATEGY=random")
        if not key.startswith("osal.") and not word.startswith("+") and not _has(cfg, key):
            raise ConfigError(f"{key}: the config has no such key; +{word} adds it")
    try:
        return LazyConfig.apply_overrides(cfg, list(overrides))
    except Exception as error:  # hydra's parser has errors of its own
        raise ConfigError(f"{' '.join(overrides)}: {' '.join(str(error).split())}") from error


def _has(cfg: DictConfig, key: str) -> bool:
    try:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        return node is not None and (name in node if isinstance(node, Mapping) else int(name) < len(node))
    except (OmegaConfBaseException, ValueError, TypeError):
        return False


def _check_keys(given: Mapping, known: Mapping, prefix: str) -> None:
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{prefix}{key}: not used here; remove it or use one of {', '.join(known)}")
        if isinstance(known[key], Mapping):
            _check_keys(value, known[key], f"{prefix}{key}.")


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
    try:
        settings.merge_from_other_cfg(CfgNode({"OSAL": given}))
    except (AssertionError, KeyError, ValueError) as error:
        raise ConfigError(
            f"osal: {error.args[0]}; the keys are in osal_detectron2/config.py; floats have a dot, "
            "names in a list have quotes"
        ) from None
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


def plain(value):
    """A value of a lazy config as JSON can hold it: objects by name, ShapeSpecs and partials by their content."""
    if isinstance(value, Mapping):
        if isinstance(
            name := value.get("_target_"), str
        ):  # a saved config has names, and not always the same
            value = {**value, "_target_": locate(name) or name}
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, partial):
        return {"_target_": plain(value.func), "args": plain(value.args), **plain(value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


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
            config=flat_config(cfg, settings, two_detectors=hasattr(model, "auxiliary")),
            make_mapper=_mapper_factory(cfg, cache={} if settings.OSAL.DATA.CACHE_IMAGES else None),
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            max_dets=cfg.test.max_dets,
            resume=resume,
            read_only=read_only,
        )
        self.lazy_cfg = cfg
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

    def config_text(self) -> str:
        """The config as YAML that `load_config` reads again, as Detectron2 saves it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            LazyConfig.save(self.lazy_cfg, str(path))
            return path.read_text()


def flat_config(cfg: DictConfig, settings: CfgNode, *, two_detectors: bool) -> dict:
    """Flat {key: value} of everything that a resumed run must not change; OSAL.* as with a YAML config."""
    free = FREE_KEYS + tuple(f"OSAL.{key}" for key in _ARGUMENTS if key != "PROTOTYPE.")
    ours = matching_keys({"OSAL": settings.OSAL}, free=free)
    ours = {k: v for k, v in ours.items() if not k.startswith("OSAL.PROTOTYPE.") or k.endswith(".REFIT")}
    nodes = ("model", "optimizer", *(name for name in DEFAULTS if name != "osal"))
    rest = plain({name: OmegaConf.to_container(cfg[name], resolve=True) for name in nodes})
    built = "target and auxiliary" if two_detectors else "target"  # not all of cfg.model, for some strategies
    return {**ours, **matching_keys(rest, free=_FREE), "detectors": built}


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
