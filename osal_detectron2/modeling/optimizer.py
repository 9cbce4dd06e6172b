"""Detectron2's SGD, with prototypes in a parameter group of their own (docs/reproducibility.md 2.4 c)."""

from collections.abc import Mapping

import torch
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn


def osal_optimizer_params(
    model: nn.Module,
    *,
    base_lr: float,
    prototype_lr_factor: float = 25.0,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    overrides: Mapping[str, Mapping] | None = None,
) -> list[dict]:
    """`get_default_optimizer_params`, but prototypes at base_lr * prototype_lr_factor and without weight decay."""
    prototypes = {"lr": base_lr * prototype_lr_factor, "weight_decay": 0.0}
    return get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay_norm=weight_decay_norm,
        bias_lr_factor=bias_lr_factor,
        weight_decay_bias=weight_decay_bias,
        overrides={**(overrides or {}), "prototypes": prototypes},
    )


def build_optimizer_params(cfg, model: nn.Module) -> list[dict]:
    """The groups of `osal_optimizer_params` as cfg.SOLVER and OSAL.PROTOTYPE.LR_FACTOR say."""
    return osal_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        prototype_lr_factor=cfg.OSAL.PROTOTYPE.LR_FACTOR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )


def build_osal_optimizer(cfg, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as `detectron2.solver.build_optimizer` builds it, with the groups of `build_optimizer_params`."""
    optimizer = torch.optim.SGD(
        build_optimizer_params(cfg, model),
        lr=cfg.SOLVER.BASE_LR,
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
    )
    return maybe_add_gradient_clipping(cfg, optimizer)
