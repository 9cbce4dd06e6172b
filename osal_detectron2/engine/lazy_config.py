"""A LazyConfig file, with defaults for what it leaves out, changed by key=value words; and its text in a run folder."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from pydoc import locate

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..core.errors import ConfigError
from ..merge_config import hint, join_lists
from .saved_config import load_saved

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


def load_config(
    path: str, overrides: Sequence[str] = (), *, recorded: DictConfig | None = None
) -> DictConfig:
    """The config in a Python file, changed by `key=value` words, with DEFAULTS for what it leaves out.

    A YAML file is one that a run folder keeps (engine/saved_config.py). recorded: the config of the run that goes on,
    which then takes the place of DEFAULTS.

    Raises ConfigError for a missing or broken file, an unknown key, and a word that is no key=value.
    """
    if not Path(path).is_file():
        raise ConfigError(f"--config-file {path}: no such file")
    if Path(path).suffix in (".yaml", ".yml"):
        cfg = load_saved(path)
    else:
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
        known = OmegaConf.to_container(recorded[name]) if recorded is not None else {}
        cfg[name] = OmegaConf.merge(
            node, OmegaConf.create(known, flags={"allow_objects": True}), cfg.get(name, {})
        )
    return apply_words(cfg, overrides)


def apply_words(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """`cfg` changed in place by `key=value` words. Raises ConfigError for an unknown key or another word."""
    overrides = join_lists(overrides)
    for word in overrides:
        key = word.split("=")[0].lstrip("+~")
        if "=" not in word:
            raise ConfigError(f"{word}: give key=value, e.g. osal.STRATEGY=random")
        if not key.startswith("osal.") and not word.startswith("+") and not _has(cfg, key):
            raise ConfigError(f"{key}: the config has no such key{hint(key, _keys(cfg))}; +{word} adds it")
    try:
        return LazyConfig.apply_overrides(cfg, list(overrides))
    except Exception as error:  # hydra's parser has errors of its own
        raise ConfigError(f"{' '.join(overrides)}: {' '.join(str(error).split())}") from error


def _keys(node, prefix: str = "") -> list[str]:
    keys = []
    for name in node if isinstance(node, DictConfig) else ():
        keys.append(f"{prefix}{name}")
        keys += _keys(node._get_node(name), f"{prefix}{name}.")
    return keys


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


def config_text(cfg: DictConfig) -> str:
    """The config as YAML that `load_config` reads again, as Detectron2 saves it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        LazyConfig.save(cfg, str(path))
        return path.read_text()
