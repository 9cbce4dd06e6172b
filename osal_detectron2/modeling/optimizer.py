"""Detectron2's SGD, with prototypes in a parameter group of their own (methods section 2.4 c)."""

import torch
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn


def build_optimizer_params(cfg, model: nn.Module) -> list[dict]:
    """Detectron2's parameter groups; prototypes at BASE_LR * PROTOTYPE.LR_FACTOR, without weight decay."""
    base_lr = cfg.SOLVER.BASE_LR
    return get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        overrides={"prototypes": {"lr": base_lr * cfg.OSAL.PROTOTYPE.LR_FACTOR, "weight_decay": 0.0}},
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
