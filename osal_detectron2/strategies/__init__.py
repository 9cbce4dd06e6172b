"""Selection strategies: numpy, scikit-learn where it is used, never torch. Importing this package registers all."""

from importlib import import_module
from pkgutil import iter_modules

from .base import (
    Detections,
    GroundTruthFeatures,
    ImageFeatures,
    Pass,
    PredictedLoss,
    QueryContext,
    Selection,
    Strategy,
    available,
    check_selection,
    get_strategy,
    query_nodes,
    register,
    setting_nodes,
)

# A strategy is one file of this folder; nothing else has to name it.
for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Detections", "GroundTruthFeatures", "ImageFeatures", "Pass", "PredictedLoss", "QueryContext", "Selection",
    "Strategy", "available", "check_selection", "get_strategy", "query_nodes", "register", "setting_nodes",
]  # fmt: skip
