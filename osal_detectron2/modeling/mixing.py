"""What of somebody's ROI heads goes together with ours: kept, or refused by name, never dropped in silence."""

import inspect

from detectron2.modeling.box_regression import Box2BoxTransformRotated
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
)
from detectron2.modeling.roi_heads.rotated_fast_rcnn import RROIHeads
from torch import nn

from osal_detectron2.core.errors import ConfigError

from .fast_rcnn import EvidentialOutputLayers, OpenSetFastRCNNOutputLayers

PAGE = "docs/plug_in_head.md"
_DETECTRON2 = (ROIHeads, StandardROIHeads, Res5ROIHeads, CascadeROIHeads, *nn.Module.__mro__)


def check_bases(cls: type, *, ours: type, replaced: str, keyword_only: type) -> None:
    """Raise ConfigError for bases of the heads `cls` in an order in which one of them would lose what it does.

    Args:
        ours: the base of this package whose method `replaced` does not call those of the bases behind it.
        keyword_only: the base of this package that gives those behind it keywords, never (cfg, input_shape).
    """
    bases = cls.__mro__
    for base in bases[bases.index(ours) + 1 :]:
        if base not in _DETECTRON2 and replaced in vars(base):
            raise ConfigError(
                f"{cls.__name__}: {replaced} of {base.__name__} would not be used; name {base.__name__} first among "
                f"the bases, and let its {replaced} call super().{replaced} ({PAGE})"
            )
    for base in bases[bases.index(keyword_only) + 1 :]:
        own = base not in _DETECTRON2 and vars(base).get("__init__")
        if own and "cfg" in inspect.signature(own).parameters:
            raise ConfigError(
                f"{cls.__name__}: {base.__name__} is made from (cfg, input_shape); name it first among the bases "
                f"({PAGE})"
            )


def check_predictors(heads: str, predictors: list[nn.Module], *, evidential: bool = False) -> None:
    """Raise ConfigError unless the box predictors of `heads` say which region each detection comes from.

    `evidential`: they have to be evidential classifiers, too.
    """
    for predictor in predictors:
        name = type(predictor).__name__
        if isinstance(getattr(predictor, "box2box_transform", None), Box2BoxTransformRotated):
            raise _rotated(f"{heads} with {name}")
        wanted = EvidentialOutputLayers if evidential else OpenSetFastRCNNOutputLayers
        if not isinstance(predictor, wanted):
            raise ConfigError(
                f"{heads}: its box predictor is {name}, which does not say which region a detection comes from"
                f"{' or is no evidential classifier' if evidential else ''}; derive it from "
                f"osal_detectron2.modeling.fast_rcnn.{wanted.__name__} ({PAGE})"
            )


def check_upright(cfg, *, names: tuple[str, ...]) -> None:
    """Raise ConfigError for a config of rotated boxes; `names`: of its ROI heads."""
    generator = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if generator == "RRPN":
        raise _rotated(f"MODEL.PROPOSAL_GENERATOR.NAME {generator}")
    for name in names:
        if name in ROI_HEADS_REGISTRY and issubclass(ROI_HEADS_REGISTRY.get(name), RROIHeads):
            raise _rotated(f"MODEL.ROI_HEADS.NAME {name}")


def _rotated(what: str) -> ConfigError:
    return ConfigError(
        f"{what} is for rotated boxes, which have no tightness, matching or NMS here: take RPN, "
        "DefaultAnchorGenerator, POOLER_TYPE ROIAlignV2 and heads for upright boxes, or leave the detector as it was"
    )


def check_point_head(cfg) -> None:
    """Raise ConfigError where PointRend would end in a bare assertion, as it does when a class is added."""
    point, wanted = cfg.MODEL.get("POINT_HEAD"), cfg.MODEL.ROI_HEADS.NUM_CLASSES
    used = cfg.MODEL.MASK_ON and cfg.MODEL.ROI_MASK_HEAD.get("POINT_HEAD_ON", False)
    if point and used and point.NUM_CLASSES != wanted:
        raise ConfigError(
            f"MODEL.POINT_HEAD.NUM_CLASSES is {point.NUM_CLASSES}, but MODEL.ROI_HEADS.NUM_CLASSES {wanted}: PointRend "
            f"has one mask for each class; set the former to {wanted}, too"
        )


def check_branches_ran(heads: nn.Module, args: tuple, output: object) -> None:
    """A forward hook. Raises ConfigError if somebody's method came first and did not call ours.

    Before anything is trained that way: at the first step.
    """
    if not heads.branches_ran:
        raise ConfigError(
            f"{type(heads).__name__}: our part of the heads was passed over; let {heads.replaces} of the class that "
            f"comes first call super().{heads.replaces} ({PAGE})"
        )
    heads.branches_ran = False
