"""Selection strategies: numpy, scikit-learn where it is used, never torch. Importing this package registers all."""

from . import (  # noqa: F401  (registration)
    cald,
    coreset,
    count_all,
    laal,
    lfosa,
    ll4al,
    openal,
    osal_nd,
    osal_nd_plus,
    random,
    uncertainty,
)
from .base import Pass, QueryContext, Selection, Strategy, available, check_selection, get_strategy, register

__all__ = [
    "Pass",
    "QueryContext",
    "Selection",
    "Strategy",
    "available",
    "check_selection",
    "get_strategy",
    "register",
]
