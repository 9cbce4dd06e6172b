"""OSALRCNN: the target and the auxiliary detector as one model."""

from contextlib import nullcontext

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_model
from detectron2.modeling.meta_arch import ProposalNetwork, SemanticSegmentor
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from osal_detectron2.core.errors import ConfigError, check_choice

from ..renamed import adopt_old_keys
from .fast_rcnn import NMS_MODES, EvidentialOutputLayers, OpenSetFastRCNNOutputLayers
from .mixing import check_upright
from .roi_heads import OpenSetBoxHeads, box_predictors
from .shared_backbone import MODES, SharedBackbone
from .unknown import LEARNT, POLICIES, PSEUDO, OpenSetRPN, num_unknown, split_unknown

AUXILIARY_CLASSES = ("known_unknown", "k_plus_one")
WITHOUT_ROI_HEADS = (DenseDetector, ProposalNetwork, SemanticSegmentor)


def check_architecture(cfg) -> None:
    """Raise ConfigError if the rounds of a run cannot train the detector of `cfg`.

    All that a strategy reads of a detector, and the number of classes that a run sets, belongs to ROI heads: RetinaNet,
    FCOS, a proposal or a semantic network have none. And a run knows the boxes of nuclei only, no masks or keypoints.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    architecture = META_ARCH_REGISTRY.get(name)
    headless = isinstance(architecture, type) and issubclass(architecture, WITHOUT_ROI_HEADS)
    # A RetinaNet config whose META_ARCHITECTURE alone was changed; its pyramid has p3 to p7 and no res4.
    dense = "retinanet" in cfg.MODEL.BACKBONE.NAME and list(cfg.MODEL.ROI_HEADS.IN_FEATURES) == ["res4"]
    if headless or dense:
        what = f"META_ARCHITECTURE: {name}" if headless else f"BACKBONE.NAME: {cfg.MODEL.BACKBONE.NAME}"
        raise ConfigError(
            f"MODEL.{what} has no ROI heads, which strategies read and rounds configure; start from a Faster, Mask, "
            "Cascade or Keypoint R-CNN config, e.g. configs/Base-OSAL-R50-FPN.yaml"
        )
    check_upright(cfg, names=(cfg.MODEL.ROI_HEADS.NAME, cfg.OSAL.AUXILIARY.ROI_HEADS_NAME))
    heads = ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)
    ours = isinstance(heads, type) and issubclass(heads, OpenSetBoxHeads)
    if cfg.OSAL.DATA.UNKNOWN_POLICY in LEARNT and not ours:
        raise ConfigError(
            f"OSAL.DATA.UNKNOWN_POLICY {cfg.OSAL.DATA.UNKNOWN_POLICY} needs open-set ROI heads, which hide the unknown "
            f"classes, not {cfg.MODEL.ROI_HEADS.NAME}; set MODEL.ROI_HEADS.NAME, e.g. to OpenSetStandardROIHeads"
        )
    for key in ("MASK_ON", "KEYPOINT_ON"):
        if cfg.MODEL[key]:
            raise ConfigError(
                f"MODEL.{key} is True, but a run trains on boxes, in any trainer, since boxes are what is annotated; "
                "set it to False"
            )


def auxiliary_view(instances: Instances, num_known: int, classes: str = "known_unknown") -> Instances:
    """The same boxes with the auxiliary's classes. The argument stays as it is.

    `classes`: "known_unknown" 0 known, 1 unknown; "k_plus_one" 0..K-1 as they are, K unknown. The unknown class is
    the last one in both.
    """
    fields = dict(instances.get_fields())
    if classes == "known_unknown":
        fields["gt_classes"] = (instances.gt_classes >= num_known).long()
    else:
        fields["gt_classes"] = instances.gt_classes.clamp(max=num_known)
    return Instances(instances.image_size, **fields)


def target_view(instances: Instances, num_known: int, unknown_policy: str) -> Instances:
    """What the target learns from: without the unknown nuclei ("drop"), or as it is (every other policy)."""
    return split_unknown(instances, num_known)[0] if unknown_policy == "drop" else instances


def is_coupled(*, unknown_policy: str, auxiliary_backbone: str) -> bool:
    """Whether the target trains otherwise in an OSALRCNN than alone. If not, strategies may drop the auxiliary."""
    return unknown_policy == "ignore" or auxiliary_backbone == "shared"


def target_cfg(cfg):
    """Config of the target, a plain detector of the known classes."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    if cfg.OSAL.DATA.UNKNOWN_POLICY == "ignore" and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN":
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "OpenSetRPN"
    return cfg


def auxiliary_cfg(cfg):
    """Config of the auxiliary, a plain detector that finds boxes of OSAL.AUXILIARY.CLASSES and no masks.

    Raises ConfigError for other classes than AUXILIARY_CLASSES.
    """
    classes = cfg.OSAL.AUXILIARY.CLASSES
    check_choice("OSAL.AUXILIARY.CLASSES", classes, AUXILIARY_CLASSES)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    cfg.OSAL.DATA.UNKNOWN_POLICY = "drop"  # the target's; the auxiliary shows its unknown class
    cfg.MODEL.ROI_HEADS.NAME = cfg.OSAL.AUXILIARY.ROI_HEADS_NAME
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = cfg.OSAL.AUXILIARY.BOX_BRANCHES
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2 if classes == "known_unknown" else cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.OSAL.AUXILIARY.SCORE_THRESH
    return cfg


@META_ARCH_REGISTRY.register()
class OSALRCNN(nn.Module):
    """Two detectors that see the same images under different labels (docs/reproducibility.md 2.0 and 2.1).

    The target learns the K known classes, the auxiliary to tell known from unknown (`auxiliary_view`). Unless they
    share the backbone, no parameter is common to both and the loss is a sum, so training them together equals
    training them apart (Detectron2's gradient clipping is per parameter; clipping by the norm of all of them would
    couple the two).
    Inputs carry `gt_classes` 0..K-1 for known nuclei and K for unknown ones, with the policy "classes" from K on.
    """

    _version = 1
    # Tells the engine that this model wants the unknown nuclei among its training instances.
    open_set_inputs = True

    @configurable
    def __init__(
        self,
        *,
        auxiliary: nn.Module,
        target: nn.Module,
        num_known: int,
        unknown_policy: str = "drop",
        auxiliary_classes: str = "known_unknown",
        auxiliary_backbone: str = "own",
    ):
        """
        Args:
            auxiliary, target: `GeneralizedRCNN`s of 2 (or K + 1) and of `num_known` classes.
            num_known: K.
            auxiliary_classes: which labels the auxiliary learns, see `auxiliary_view`.
            unknown_policy: "drop", "ignore", "class" or "classes", see `modeling.unknown`; "ignore" asks for a target
                with `OpenSetRPN` and open-set ROI heads, the last two for one whose box predictor has `num_unknown`.
            auxiliary_backbone: "own"; "shared", the target's, trained by the losses of both; "detached", the target's,
                trained by its own losses alone. But for "own" that of `auxiliary` is dropped.

        Raises:
            ConfigError: the target cannot do what the policy asks; an `auxiliary_backbone` that is none of the three.
        """
        super().__init__()
        check_choice("OSAL.DATA.UNKNOWN_POLICY", unknown_policy, POLICIES)
        if unknown_policy == "ignore":
            if not isinstance(target.proposal_generator, OpenSetRPN):
                raise ConfigError(
                    "OSAL.DATA.UNKNOWN_POLICY 'ignore' needs MODEL.PROPOSAL_GENERATOR.NAME 'RPN' or "
                    f"'OpenSetRPN', not {type(target.proposal_generator).__name__}"
                )
            if not isinstance(target.roi_heads, OpenSetBoxHeads):
                raise ConfigError(
                    "OSAL.DATA.UNKNOWN_POLICY 'ignore' needs open-set ROI heads, e.g. MODEL.ROI_HEADS.NAME "
                    f"'OpenSetStandardROIHeads', not {type(target.roi_heads).__name__}"
                )
        if (unknown_policy in LEARNT) != bool(num_unknown(target)):
            raise ConfigError(
                f"OSAL.DATA.UNKNOWN_POLICY '{unknown_policy}' does not fit a target with {num_unknown(target)} classes "
                "for unknown nuclei: it takes open-set ROI heads, e.g. MODEL.ROI_HEADS.NAME 'OpenSetStandardROIHeads', "
                "whose box predictor has num_unknown 1 for 'class', the number of unknown classes for 'classes', and "
                "else 0"
            )
        check_choice("OSAL.AUXILIARY.BACKBONE", auxiliary_backbone, MODES)
        if auxiliary_backbone != "own":
            auxiliary.backbone = SharedBackbone(target.backbone, detach=auxiliary_backbone == "detached")
        self.auxiliary = auxiliary
        self.target = target
        self.num_known = num_known
        self.unknown_policy = unknown_policy
        self.auxiliary_classes = auxiliary_classes

    @classmethod
    def from_config(cls, cfg):
        cfg = cfg.clone()
        cfg.defrost()
        adopt_old_keys(cfg)
        # The target first: with one seed it then starts from the weights of the baselines' plain detector.
        target = build_model(target_cfg(cfg))
        auxiliary = build_model(auxiliary_cfg(cfg))
        node = cfg.OSAL.AUXILIARY
        _set_up_predictors(auxiliary, nms=node.NMS, temperature=node.TEMPERATURE)
        return {
            "auxiliary": auxiliary,
            "target": target,
            "num_known": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "unknown_policy": cfg.OSAL.DATA.UNKNOWN_POLICY,
            "auxiliary_classes": node.CLASSES,
            "auxiliary_backbone": node.BACKBONE,
        }

    @property
    def device(self) -> torch.device:
        return self.target.device

    def forward(self, batched_inputs: list[dict]):
        """In training losses, keys "auxiliary/..." and "target/..."; otherwise the target's detections."""
        if not self.training:
            return self.inference(batched_inputs)
        # The target first: it then draws the same random samples as a plain detector with the same seed.
        annotated = [x for x in batched_inputs if not x.get(PSEUDO)]
        taught = [x for x in batched_inputs if x.get(PSEUDO)]  # by the target's teacher, for the target
        known = self.num_known
        views = {
            "target": [self._view(x, target_view, known, self.unknown_policy) for x in annotated] + taught,
            "auxiliary": [self._view(x, auxiliary_view, known, self.auxiliary_classes) for x in annotated],
        }
        losses = {}
        backbone = self.auxiliary.backbone
        with backbone.reuse() if isinstance(backbone, SharedBackbone) else nullcontext():
            for name, inputs in views.items():
                # Both children log under the same names.
                with get_event_storage().name_scope(name):
                    found = getattr(self, name)(inputs)
                    losses.update({f"{name}/{key}": value for key, value in found.items()})
        return losses

    def inference(self, batched_inputs: list[dict], detected_instances=None, do_postprocess: bool = True):
        """The target's `GeneralizedRCNN.inference`."""
        return self.target.inference(batched_inputs, detected_instances, do_postprocess)

    @staticmethod
    def _view(item: dict, view, *args) -> dict:
        return {**item, "instances": view(item["instances"], *args)}


def _set_up_predictors(detector: nn.Module, *, nms: str, temperature: float) -> None:
    check_choice("OSAL.AUXILIARY.NMS", nms, NMS_MODES)
    if not temperature > 0:
        raise ConfigError(f"OSAL.AUXILIARY.TEMPERATURE is {temperature}: give a number above 0")
    heads = "OSAL.AUXILIARY.ROI_HEADS_NAME, e.g. 'OpenSetStandardROIHeads'"
    for predictor in box_predictors(detector.roi_heads):
        ours = isinstance(predictor, OpenSetFastRCNNOutputLayers)
        if ours:
            predictor.nms = nms
        elif nms != "per_class":
            raise ConfigError(
                f"OSAL.AUXILIARY.NMS '{nms}' needs open-set ROI heads in {heads}, not "
                f"{type(detector.roi_heads).__name__}"
            )
        if ours and not isinstance(predictor, EvidentialOutputLayers):
            predictor.temperature = temperature
        elif temperature != 1.0:
            raise ConfigError(
                f"OSAL.AUXILIARY.TEMPERATURE {temperature} needs a softmax classifier of open-set ROI heads, {heads}, "
                f"not {type(predictor).__name__}"
            )
