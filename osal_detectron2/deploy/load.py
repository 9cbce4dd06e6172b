"""The detector of a run, of one of its checkpoints, or of an exported folder. Reads only."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.modeling import build_model
from torch import nn

from .. import add_osal_config
from ..core.errors import ConfigError, DataError
from ..core.ledger import Ledger
from ..core.run_config import CONFIG, LAZY, config_file, front_without_header
from ..core.store import read_json
from ..data.mapper import TileMapper, mapper_from_config
from ..modeling.detectors import Detectors
from ..renamed import adopt_old_keys
from ..strategies import query_nodes

FINAL, EXPORTED = "model_final.pth", "model.pth"
METADATA = "metadata.json"


@dataclass(frozen=True)
class Detector:
    """A model in inference mode with what belongs to it.

    model: as the run trained it. classes: names of the known classes, in the order of the detector's outputs. mapper:
    reads and resizes images as in the run's evaluation. train_sets: the training JSON, or registered names, as the
    config has them. cfg: None for a run from a LazyConfig.
    """

    model: nn.Module
    classes: tuple[str, ...]
    mapper: TileMapper
    folder: Path
    weights: Path
    train_sets: tuple[str, ...]
    cfg: CfgNode | None

    @property
    def target(self) -> nn.Module:
        """The detector of the known classes."""
        return Detectors(self.model).target

    @property
    def auxiliary(self) -> nn.Module | None:
        """The detector that tells known from unknown, or None where the run has none."""
        return Detectors(self.model).auxiliary


def load_detector(path: str | Path, *, device: str = "cpu") -> Detector:
    """
    Args:
        path: the OUTPUT_DIR of a run (its final weights or, if it has not ended, those of its last checkpoint), a
            checkpoint in it such as round_0.pth, or a folder that `osal export` wrote.
        device: "cpu" or "cuda".

    Raises:
        DataError: a file is missing or damaged. ConfigError: weights and config do not fit, or there is no such device.
    """
    folder, weights = locate(path)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device}: no GPU is usable here; choose cpu")
    if _is_lazy(folder):
        return _load_lazy(folder, weights, device=device)
    cfg = read_config(folder, device=device)
    model = load_model(cfg, weights)
    data = cfg.OSAL.DATA
    return Detector(
        model=model,
        classes=class_names(folder, number=cfg.MODEL.ROI_HEADS.NUM_CLASSES, configured=data.KNOWN_CLASSES),
        mapper=mapper_from_config(cfg, train=False, with_labels=False),
        folder=folder,
        weights=weights,
        train_sets=(data.TRAIN_JSON,) if data.TRAIN_JSON else tuple(cfg.DATASETS.TRAIN),
        cfg=cfg,
    )


def _is_lazy(folder: Path) -> bool:
    """Whether the config in `folder` is a LazyConfig."""
    front = Ledger.open(folder).header["front"] if Ledger.exists(folder) else front_without_header(folder)
    return front == LAZY


def _load_lazy(folder: Path, weights: Path, *, device: str) -> Detector:
    from ..engine.lazy import load_config, osal_settings

    path = config_file(folder)
    cfg = load_config(str(path))
    settings, state = osal_settings(cfg), read_weights(weights)
    node = cfg.model
    if "target" in node and not any(name.startswith("target.") for name in state):
        node = node.target  # a strategy without use for the auxiliary
    try:
        model = instantiate(node).to(device)
        augmentations = list(instantiate(cfg.dataloader.test_augmentations))
    except (
        Exception
    ) as error:  # a file that training started from may be gone, or any other fault of a constructor
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    _fill(model, state, weights)
    number, data = Detectors(model).num_known, settings.OSAL.DATA
    sets = (data.TRAIN_JSON, cfg.dataloader.datasets.train)
    return Detector(
        model=model,
        classes=class_names(folder, number=number, configured=data.KNOWN_CLASSES),
        mapper=TileMapper(
            augmentations=augmentations, image_format=cfg.dataloader.image_format, with_labels=False
        ),
        folder=folder,
        weights=weights,
        train_sets=tuple(name for name in sets if name)[:1],
        cfg=None,
    )


def locate(path: str | Path) -> tuple[Path, Path]:
    """(folder of the config, file of the weights) that `path` means. Raises DataError naming what is missing."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the OUTPUT_DIR of a run or a checkpoint in it")
    if not (config := config_file(folder)).is_file():
        raise DataError(f"{config}: no such file; a checkpoint needs the config of its run beside it")
    if path.is_file():
        return folder, path
    candidates = [folder / FINAL, folder / EXPORTED]
    last = folder / "last_checkpoint"
    if last.is_file():
        candidates.append(folder / Path(last.read_text().strip()).name)
    for candidate in candidates:
        if candidate.is_file():
            return folder, candidate
    raise DataError(
        f"{folder / FINAL}: no such file, nor any other checkpoint; train first, or give a .pth file"
    )


def read_config(folder: str | Path, *, device: str = "cpu") -> CfgNode:
    """The config in `folder`, on `device`, frozen. Raises DataError where it is no config of ours.

    The settings of queries stay at their defaults: a detector has no use for them, and another version may have others.
    """
    path = config_file(folder)
    cfg = get_cfg()
    add_osal_config(cfg)
    try:
        # No _BASE_: a run folder has its whole config.
        loaded = CfgNode(yaml.safe_load(path.read_text(encoding="utf-8")))
        adopt_old_keys(loaded)
        for node in query_nodes():
            loaded.get("OSAL", {}).pop(node, None)
        cfg.merge_from_other_cfg(loaded)
    except Exception as error:  # yaml and yacs raise what they like
        raise DataError(f"{path}: cannot be read as a config ({' '.join(str(error).split())})") from None
    cfg.MODEL.DEVICE = device
    cfg.freeze()
    return cfg


def load_model(cfg: CfgNode, weights: str | Path) -> nn.Module:
    """The model of `cfg` with the weights of a checkpoint, every one of them, in inference mode.

    Raises DataError for a file that is no checkpoint, ConfigError where it lacks weights of the model.
    """
    cfg = cfg.clone()
    cfg.defrost()
    # The files that training started from may be gone; that there were weights decides which layers are frozen.
    cfg.MODEL.WEIGHTS = str(weights)
    for node in cfg.MODEL.values():
        if isinstance(node, CfgNode) and "WEIGHTS" in node:
            node.WEIGHTS = ""
    model = build_model(cfg)
    _fill(model, read_weights(weights), weights)
    return model


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The model's part of a checkpoint. Raises DataError for a file that is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return content.get("model", content)
    except (OSError, RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: is no checkpoint of PyTorch tensors ({first}); copy it again") from None


def _fill(model: nn.Module, state: dict, weights: str | Path) -> None:
    """Load every weight, and go into inference mode."""
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{weights}: does not fit the config ({' '.join(str(error).split())})") from None
    if missing:
        raise ConfigError(
            f"{weights}: lacks {len(missing)} weights of the model, e.g. {missing[0]}; it belongs to another {CONFIG}"
        )
    model.eval()


def class_names(folder: Path, *, number: int, configured: Sequence[str]) -> tuple[str, ...]:
    """Names of the `number` known classes: from the record of the run, an export's metadata, or the config.

    An export's model has the metadata's "unknown_classes" among the `number`, behind the known ones.

    Raises DataError where none of them has so many.
    """
    sources = {folder / "run.json": "known_classes", folder / METADATA: "classes"}
    contents = [(read_json(path), key) for path, key in sources.items() if path.is_file()]
    names = [(content.get(key), len(content.get("unknown_classes", ()))) for content, key in contents]
    for found, hidden in [*names, (configured, 0)]:
        if found and len(found) + hidden == number:
            return tuple(found)
    raise DataError(
        f"{config_file(folder)}: the names of the {number} classes are nowhere; set OSAL.DATA.KNOWN_CLASSES there"
    )
