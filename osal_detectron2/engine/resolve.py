"""The config that a run is built from: the given one with what follows from its plan. No config is changed here."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm

from ..config import add_osal_config
from ..core.errors import ConfigError, check_choice
from ..data.mapper import unused_settings
from ..modeling.meta_arch import check_architecture, is_coupled
from ..modeling.unknown import POLICIES, name_unknown
from ..oracles import get_oracle
from ..renamed import adopt_old_keys
from ..strategies import Strategy
from .plan import Plan

# A preview with another strategy looks through the detectors that the run has.
_BUILT = ("MODEL.", "OSAL.AUXILIARY.", "OSAL.PROTOTYPE.", "OSAL.EVIDENCE.", "OSAL.DATA.UNKNOWN_")


def default_config() -> CfgNode:
    """Detectron2's and our defaults, under today's names."""
    cfg = get_cfg()
    add_osal_config(cfg)
    adopt_old_keys(cfg)
    return cfg


def with_new_names(cfg: CfgNode) -> CfgNode:
    """A copy of `cfg` whose keys have today's names. Raises ConfigError for a key with two names and two values."""
    cfg = open_copy(cfg)
    adopt_old_keys(cfg, default=default_config())
    return cfg


def resolve(cfg: CfgNode, plan: Plan) -> CfgNode:
    """A copy of `cfg` with what follows from data, budget and strategy.

    Raises ConfigError for values that cannot work.
    """
    check_choices(cfg.OSAL)
    check_machine(device=cfg.MODEL.DEVICE, amp=cfg.SOLVER.AMP.ENABLED, weights=cfg.MODEL.WEIGHTS)
    for sentence in unused_settings(cfg) if comm.is_main_process() else ():
        logging.getLogger(__name__).warning(sentence)
    ignoring = cfg.OSAL.DATA.UNKNOWN_POLICY == "ignore"
    if ignoring and cfg.MODEL.META_ARCHITECTURE != "OSALRCNN":
        raise ConfigError(
            "OSAL.DATA.UNKNOWN_POLICY ignore needs MODEL.META_ARCHITECTURE OSALRCNN; set it, or use the policy drop"
        )
    cfg = open_copy(cfg)
    if cfg.OSAL.SEMI.ENABLED and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN":
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "OpenSetRPN"  # the same, and it can leave boxes out
    name_unknown(cfg, plan.unknown_classes)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(plan.known_classes)
    cfg.SOLVER.MAX_ITER = plan.schedule.max_iter
    cfg.SOLVER.STEPS = ()
    return with_strategy(cfg, plan.strategy)


def open_copy(cfg: CfgNode) -> CfgNode:
    """A copy that can be changed, whether or not `cfg` is frozen."""
    copy = cfg.clone()
    copy.defrost()
    return copy


def with_strategy(cfg: CfgNode, strategy: Strategy) -> CfgNode:
    """A copy of `cfg` with the detectors that the strategy needs. Raises ConfigError for others than R-CNN."""
    check_architecture(cfg)  # before the strategy's choice hides it
    cfg = open_copy(cfg)
    if strategy.overrides:
        cfg.merge_from_list([word for pair in strategy.overrides.items() for word in pair])
    if (
        cfg.MODEL.META_ARCHITECTURE == "OSALRCNN"
        and "auxiliary" not in strategy.needs
        and not is_coupled(
            unknown_policy=cfg.OSAL.DATA.UNKNOWN_POLICY, auxiliary_backbone=cfg.OSAL.AUXILIARY.BACKBONE
        )
    ):
        cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if hasattr(architecture, "check_config"):  # now, before anything is written
        architecture.check_config(cfg)
    return cfg


def with_detectors_of(cfg: CfgNode, recorded: Mapping) -> CfgNode:
    """A copy of `cfg` with the detectors of a run; `recorded`: the flat config of its header, under today's names."""
    cfg = open_copy(cfg)
    kept = {key: value for key, value in recorded.items() if key.startswith(_BUILT)}
    cfg.merge_from_list([word for pair in kept.items() for word in pair])
    return cfg


def check_choices(osal: CfgNode) -> None:
    """Raise ConfigError for a word in the node OSAL that is not one of those that its key knows."""
    weights = osal.SCHEDULE.WEIGHTS_PER_ROUND
    check_choice("OSAL.SCHEDULE.WEIGHTS_PER_ROUND", weights, ("initial", "continue"))
    check_choice("OSAL.DATA.UNKNOWN_POLICY", osal.DATA.UNKNOWN_POLICY, POLICIES)
    check_choice("OSAL.EVAL.UNKNOWN", osal.EVAL.UNKNOWN, ("fp", "ignore"))
    get_oracle(osal.ORACLE.NAME)


def check_machine(
    *,
    device: str,
    amp: bool,
    weights: str,
    keys: Sequence[str] = ("MODEL.DEVICE", "SOLVER.AMP.ENABLED", "MODEL.WEIGHTS"),
) -> None:
    """Raise ConfigError for what cannot work on this machine; `keys`: what the three are called in the config."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{keys[0]} is cuda, but no GPU is usable here; set it to cpu")
    if amp and not device.startswith("cuda"):
        raise ConfigError(f"{keys[1]} needs a GPU; set it to False, or {keys[0]} to cuda")
    if weights and "://" not in weights and not Path(weights).is_file():
        raise ConfigError(f"{keys[2]}: {weights} is not a file; give a file, a URL, or '' for random weights")
