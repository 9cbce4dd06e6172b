"""The target detector as files that need nothing of ours: a plain Detectron2 checkpoint, and TorchScript."""

import copy
import io
import sys
import warnings
from pathlib import Path

import torch
from detectron2 import __version__ as detectron2_version
from detectron2.config import CfgNode, get_cfg
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from torch import nn

from .. import __version__
from ..core.errors import ConfigError
from ..core.store import sha256_bytes, sha256_file, write_bytes, write_json
from ..data.mapper import TileMapper
from ..modeling.fast_rcnn import EvidentialOutputLayers
from ..modeling.roi_heads import box_predictors
from ..modeling.unknown import num_unknown
from .load import CONFIG, EXPORTED, METADATA, Detector
from .training_tile import training_tile

TORCHSCRIPT = "model.ts"
SCHEMA = "osal-detector/1"
_OURS = __name__.partition(".")[0]
_EVERYWHERE = {"detectron2", "fvcore", "torch", "torchvision"}


def export_detector(detector: Detector, out: str | Path, *, torchscript: bool = False) -> dict:
    """Write model.pth, config.yaml, metadata.json and, if asked for, model.ts to `out`; returns the metadata.

    metadata["classes"] are the known classes. A target that learns unknown nuclei hides its classes for them, in
    model.ts as in the run; model.pth has them after the known ones, and metadata["unknown_classes"] their names.
    metadata["needs"] lists the packages besides Detectron2 without which the config cannot be built: none, unless the
    backbone comes from one. model.ts needs torch and torchvision only.

    Raises ConfigError for what plain Detectron2 cannot have, if model.ts is not asked for (see `plain_detector`);
    OutputError.
    """
    out, target = Path(out), detector.target
    files = {}
    needs: list[str] = []
    try:
        plain, cfg, needs = plain_detector(detector)
    except ConfigError:
        if not torchscript:
            raise
    else:
        buffer = io.BytesIO()
        torch.save({"model": plain.state_dict()}, buffer)
        files = {EXPORTED: buffer.getvalue(), CONFIG: cfg.dump().encode()}
    if torchscript:
        script, fields = trace(target)
        buffer = io.BytesIO()
        torch.jit.save(script, buffer)
        files[TORCHSCRIPT] = buffer.getvalue()
    predictor = box_predictors(target.roi_heads)[-1]
    metadata = {
        "schema": SCHEMA,
        "classes": list(detector.classes),
        "unknown_classes": unknown_names(detector),
        "input": {
            "format": detector.mapper.image_format,
            "range": [0, 255],
            "resize": _resize(detector.mapper),
            "training_tile": training_tile(detector),
        },
        "pixel_mean": [round(v, 4) for v in target.pixel_mean.flatten().tolist()],
        "pixel_std": [round(v, 4) for v in target.pixel_std.flatten().tolist()],
        "score_thresh": predictor.test_score_thresh,
        "nms_thresh": predictor.test_nms_thresh,
        "detections_per_image": predictor.test_topk_per_image,
        "needs": needs,
        "source": {"weights": detector.weights.name, "sha256": sha256_file(detector.weights)},
        "versions": {
            "osal_detectron2": __version__,
            "detectron2": detectron2_version,
            "torch": torch.__version__,
        },
        "sha256": {name: sha256_bytes(content) for name, content in files.items()},
    }
    if torchscript:
        metadata["torchscript"] = {
            "file": TORCHSCRIPT,
            "input": "float32 (3, H, W) in input.format and input.range, resized as input.resize says; not normalised",
            "output": fields,
            "boxes": "x0, y0, x1, y1 in pixels of the input",
            "imports": ["torch", "torchvision"],
            "device": str(target.device),
        }
    for name, content in files.items():
        write_bytes(out / name, content)
    write_json(out / METADATA, metadata)
    return metadata


def plain_detector(detector: Detector) -> tuple[nn.Module, CfgNode, list[str]]:
    """(the target as stock parts with its weights, the config that builds it, packages that this needs).

    Each part of ours is replaced by the Detectron2 class that it extends. Without `needs` the config has the keys of
    stock Detectron2 only; with them it keeps what they added to MODEL. MODEL.WEIGHTS is model.pth, a relative path.

    Raises ConfigError where the scores of the target are not those of a stock classifier, and for a LazyConfig.
    """
    if detector.cfg is None:
        raise ConfigError(
            "this run comes from a LazyConfig, whose model no YAML config describes; export with --torchscript, which "
            "then writes model.ts alone"
        )
    cfg, target = detector.cfg.clone(), detector.target
    if any(isinstance(module, EvidentialOutputLayers) for module in target.modules()):
        raise ConfigError(
            "OSAL.EVIDENCE.MODE edl: its scores are alpha / S, which plain Detectron2 cannot compute; export with "
            "--torchscript, which then writes model.ts alone"
        )
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = _stock_name(target)
    cfg.MODEL.ROI_HEADS.NAME = _stock_name(target.roi_heads)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = target.roi_heads.num_classes  # a stock predictor hides none
    if target.proposal_generator is not None:
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = _stock_name(target.proposal_generator)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.OUTPUT_DIR = get_cfg().OUTPUT_DIR
    for node in cfg.MODEL.values():
        if isinstance(node, CfgNode) and "WEIGHTS" in node:
            node.WEIGHTS = ""  # that file need not exist where the export is used
    cfg.MODEL.WEIGHTS = EXPORTED  # before the model is built: see load_model
    plain = build_model(cfg).eval()
    missing = plain.load_state_dict(target.state_dict(), strict=False).missing_keys
    if missing:
        raise ConfigError(
            f"{type(target.roi_heads).__name__} is no extension of {type(plain.roi_heads).__name__}: it lacks "
            f"{len(missing)} of its weights, e.g. {missing[0]}; such heads cannot be exported as plain Detectron2"
        )
    packages = {type(module).__module__.partition(".")[0] for module in plain.modules()}
    needs = sorted(packages - _EVERYWHERE)
    del cfg["OSAL"]
    if not needs:
        stock = get_cfg()
        _drop_unknown(cfg, stock)
    return plain, cfg, needs


def unknown_names(detector: Detector) -> list[str]:
    """Names of the classes that the target of a run has for unknown nuclei, in order; [] where it has none."""
    hidden = num_unknown(detector.target)
    names = detector.cfg.OSAL.DATA.UNKNOWN_CLASSES if detector.cfg is not None else ()
    if hidden == len(names):
        return list(names)
    return [f"unknown {i + 1}" for i in range(hidden)] if hidden > 1 else ["unknown"] * hidden


def _resize(mapper: TileMapper) -> list[str]:
    """What happens to an image before the model sees it, in Detectron2's words; [] nothing."""
    return [str(augmentation) for augmentation in mapper.augmentations.augs]


def _stock_name(part: nn.Module) -> str:
    """The registered name of `part`: of one of ours, that of the Detectron2 class that it extends."""
    kinds = (kind for kind in type(part).__mro__ if kind.__module__.partition(".")[0] != _OURS)
    return next(kinds).__name__


def _drop_unknown(cfg: CfgNode, stock: CfgNode) -> None:
    for key in list(cfg):
        if key not in stock:
            del cfg[key]
        elif isinstance(stock[key], CfgNode):
            _drop_unknown(cfg[key], stock[key])


class _Traceable(nn.Module):
    """image (3, H, W) -> dict of tensors."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        # A number that `len` gives would become a constant of the trace.
        ours = [name for name in sys.modules if name.startswith(f"{_OURS}.modeling.")]
        with patch_builtin_len(ours):
            (instances,) = self.detector.inference([{"image": image}], do_postprocess=False)
        found = {"boxes": "pred_boxes", "scores": "scores", "classes": "pred_classes"}
        found |= {name: name for name in instances.get_fields() if name not in found.values()}
        values = {name: instances.get(field) for name, field in found.items()}
        values = {name: v.tensor if isinstance(v, Boxes) else v for name, v in values.items()}
        return {name: v for name, v in values.items() if isinstance(v, torch.Tensor)}


@torch.no_grad()
def trace(detector: nn.Module, *, channels: int = 3) -> tuple[torch.jit.ScriptModule, list[str]]:
    """(`detector` as TorchScript, the names of its outputs).

    It takes one image (channels, H, W) of any size and returns a dict: boxes (n, 4), scores, classes, and the fields
    that its heads add, all before any resizing back. It works on the device that it was traced on.
    """
    model = _Traceable(copy.deepcopy(detector)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(channels, 128, 160, generator=generator).to(detector.device)
    fields = list(model(image))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of branches that stay as they are for every image
        script = torch.jit.trace(model, (image,), strict=False, check_trace=False)
    return script, fields
