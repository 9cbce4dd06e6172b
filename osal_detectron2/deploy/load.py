"""The detector of a run, of one of its checkpoints, or of an exported folder. Reads only."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

from .. import add_osal_config
from ..core.errors import ConfigError, DataError
from ..core.store import read_json
from ..scoring.pool import detector_of

CONFIG = "config.yaml"
FINAL, EXPORTED = "model_final.pth", "model.pth"
METADATA = "metadata.json"


@dataclass(frozen=True)
class Detector:
    """A model in inference mode with what belongs to it.

    model: as the run trained it. classes: names of the known classes, in the order of the detector's outputs.
    """

    cfg: CfgNode
    model: nn.Module
    classes: tuple[str, ...]
    folder: Path
    weights: Path

    @property
    def target(self) -> nn.Module:
        """The detector of the known classes."""
        return detector_of(self.model, "target")

    @property
    def auxiliary(self) -> nn.Module | None:
        """The detector that tells known from unknown, or None where the run has none."""
        return getattr(self.model, "auxiliary", None)


def load_detector(path: str | Path, *, device: str = "cpu") -> Detector:
    """
    Args:
        path: the OUTPUT_DIR of a run (its final weights or, if it has not ended, those of its last checkpoint), a
            checkpoint in it such as round_0.pth, or a folder that tools/export_model.py wrote.
        device: "cpu" or "cuda".

    Raises:
        DataError: a file is missing or damaged. ConfigError: weights and config do not fit, or there is no such device.
    """
    folder, weights = locate(path)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device}: no GPU is usable here; choose cpu")
    cfg = read_config(folder, device=device)
    model = load_model(cfg, weights)
    return Detector(cfg, model, class_names(folder, cfg), folder, weights)


def locate(path: str | Path) -> tuple[Path, Path]:
    """(folder of config.yaml, file of the weights) that `path` means. Raises DataError naming what is missing."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the OUTPUT_DIR of a run or a checkpoint in it")
    if not (folder / CONFIG).is_file():
        raise DataError(
            f"{folder / CONFIG}: no such file; a checkpoint needs the {CONFIG} of its run beside it"
        )
    if path.is_file():
        return folder, path
    candidates = [folder / FINAL, folder / EXPORTED]
    last = folder / "last_checkpoint"
    if last.is_file():
        candidates.append(folder / last.read_text().strip())
    for candidate in candidates:
        if candidate.is_file():
            return folder, candidate
    raise DataError(
        f"{folder / FINAL}: no such file, nor any other checkpoint; train first, or give a .pth file"
    )


def read_config(folder: str | Path, *, device: str = "cpu") -> CfgNode:
    """config.yaml in `folder`, on `device`, frozen. Raises DataError where it is no config of ours."""
    path = Path(folder) / CONFIG
    cfg = get_cfg()
    add_osal_config(cfg)
    try:
        cfg.merge_from_file(str(path))
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
    try:
        content = torch.load(weights, map_location="cpu", weights_only=True)
        state = content.get("model", content)
    except (OSError, RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{weights}: is no checkpoint of PyTorch tensors ({first}); copy it again") from None
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{weights}: does not fit the config ({' '.join(str(error).split())})") from None
    if missing:
        raise ConfigError(
            f"{weights}: lacks {len(missing)} weights of the model, e.g. {missing[0]}; it belongs to another {CONFIG}"
        )
    return model.eval()


def class_names(folder: str | Path, cfg: CfgNode) -> tuple[str, ...]:
    """Names of the known classes: from the record of the run, an export's metadata, or the config.

    Raises DataError where none of them has the detector's number of classes.
    """
    number = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    sources = {
        folder / "run.json": "known_classes",
        folder / METADATA: "classes",
    }
    names = [read_json(path).get(key) for path, key in sources.items() if path.is_file()]
    for found in [*names, list(cfg.OSAL.DATA.KNOWN_CLASSES)]:
        if found and len(found) == number:
            return tuple(found)
    raise DataError(
        f"{folder / CONFIG}: the names of the {number} classes are nowhere; set OSAL.DATA.KNOWN_CLASSES there"
    )
