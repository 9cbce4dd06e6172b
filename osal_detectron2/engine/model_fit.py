"""Whether a model that was built by hand, or by a LazyConfig, is one that the data and the strategy can use."""

import torch

from ..core.errors import ConfigError
from ..modeling.detectors import Detectors
from ..modeling.roi_heads import box_predictors
from ..modeling.unknown import training_labels
from .plan import Plan

# Where a model shows that it is what a strategy's `overrides` ask for.
_SHOWN = {
    "MODEL.META_ARCHITECTURE": lambda found: type(found.model).__name__,
    "OSAL.AUXILIARY.CLASSES": lambda found: found.auxiliary_classes or None,
    "OSAL.AUXILIARY.TEMPERATURE": lambda found: (
        found.auxiliary and box_predictors(found.auxiliary.roi_heads)[0].temperature
    ),
}


def check_model(model: torch.nn.Module, plan: Plan) -> None:
    """Raise ConfigError unless the model has the classes of the plan's data and is what its strategy asks for."""
    strategy, known, detectors = plan.strategy, plan.known_classes, Detectors(model)
    for key, wanted in strategy.overrides.items():
        if key in _SHOWN and (shown := _SHOWN[key](detectors)) != wanted:
            raise ConfigError(
                f"strategy {strategy.name} needs a model with {key} {wanted}, this one has {shown}; "
                "build it so (docs/lazy_config.md) or choose another strategy"
            )
    hidden, num_known = detectors.num_unknown, detectors.num_known
    found = detectors.target.roi_heads.num_classes - hidden
    if found != len(known) or num_known != found:
        besides = f" besides the {hidden} of num_unknown" if hidden else ""
        raise ConfigError(
            f"the model has num_classes {found}{besides} and num_known {num_known}, but there are {len(known)} known "
            f"classes ({', '.join(known)}); set both to {len(known)}"
        )
    # Whether the unknown nuclei can be labelled as the target learns them.
    training_labels([], known=found, unknown_classes=plan.unknown_classes, outputs=hidden)
