"""Whether a model that was built by hand, or by a LazyConfig, is one that the data and the strategy can use."""

import torch

from ..core.errors import ConfigError
from ..modeling.roi_heads import box_predictors
from ..modeling.unknown import num_unknown, training_labels
from .from_config import Plan

# Where a model shows that it is what a strategy's `overrides` ask for.
_SHOWN = {
    "MODEL.META_ARCHITECTURE": lambda model: type(model).__name__,
    "OSAL.AUXILIARY.CLASSES": lambda model: model.auxiliary_classes,
    "OSAL.AUXILIARY.TEMPERATURE": lambda model: box_predictors(model.auxiliary.roi_heads)[0].temperature,
}


def check_model(model: torch.nn.Module, plan: Plan) -> None:
    """Raise ConfigError unless the model has the classes of the plan's data and is what its strategy asks for."""
    strategy, known = plan.strategy, plan.known_classes
    for key, wanted in strategy.overrides.items():
        shown = _SHOWN[key](model) if key in _SHOWN and _can_show(model, key) else None
        if key in _SHOWN and shown != wanted:
            raise ConfigError(
                f"strategy {strategy.name} needs a model with {key} {wanted}, this one has {shown}; "
                "build it so (docs/lazy_config.md) or choose another strategy"
            )
    target = getattr(model, "target", model)
    hidden = num_unknown(target)
    found = target.roi_heads.num_classes - hidden
    num_known = getattr(model, "num_known", found)
    if found != len(known) or num_known != found:
        besides = f" besides the {hidden} of num_unknown" if hidden else ""
        raise ConfigError(
            f"the model has num_classes {found}{besides} and num_known {num_known}, but there are {len(known)} known "
            f"classes ({', '.join(known)}); set both to {len(known)}"
        )
    # Whether the unknown nuclei can be labelled as the target learns them.
    training_labels([], known=found, unknown_classes=plan.unknown_classes, outputs=hidden)


def _can_show(model: torch.nn.Module, key: str) -> bool:
    return hasattr(model, "auxiliary") or not key.startswith("OSAL.AUXILIARY.")
