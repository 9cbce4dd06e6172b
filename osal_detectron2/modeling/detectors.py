"""The detectors in a model: all that the rounds, scoring and tools may ask of it, whichever it is.

`OSALRCNN` holds two detectors; anybody's own model is one, maybe without anything of ours. What a model has is looked
up here and nowhere else.
"""

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..core.errors import ConfigError
from .prototypes import PrototypeBranch
from .round_clock import RoundClock
from .unknown import num_unknown


class Detectors:
    """See the module. A model of two has `target`, `auxiliary` and the three attributes below as `OSALRCNN` has them.

    Attributes:
        model: without DDP around it.
        target: the detector of the known classes; a model of one detector is its own.
        auxiliary: the detector that tells known from unknown, or None.
        num_unknown: U, classes that the target has for unknown nuclei and does not show (`modeling.unknown`).
        num_known: K, as the model says, or as its classifier has them.
        auxiliary_classes: what the auxiliary learns (`meta_arch.auxiliary_view`), "" without one.
        open_set_inputs: whether the model wants the unknown nuclei among its training instances, with class K.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        self.target = getattr(self.model, "target", self.model)
        self.auxiliary = getattr(self.model, "auxiliary", None)
        self.num_unknown = num_unknown(self.target)
        self.auxiliary_classes = getattr(self.model, "auxiliary_classes", "")
        self.open_set_inputs = getattr(self.model, "open_set_inputs", False)

    @property
    def num_known(self) -> int:
        return getattr(self.model, "num_known", self.target.roi_heads.num_classes - self.num_unknown)

    def named(self, name: str) -> Any:
        """The detector "target" or "auxiliary". Raises ConfigError for one that the model does not have.

        Any: torch types whatever is asked of a module as a tensor or a module.
        """
        found = {"target": self.target, "auxiliary": self.auxiliary}[name]
        if found is None:
            raise ConfigError(
                f"the strategy needs the {name} detector, but {type(self.model).__name__} has none; "
                "set MODEL.META_ARCHITECTURE to OSALRCNN"
            )
        return found

    def fields(self, name: str) -> tuple[str, ...]:
        """What passes over the detector `name` can bring: fields of detections, and "predicted_loss"."""
        detector = self.named(name)
        fields = getattr(detector.roi_heads, "detection_fields", ())
        return (*fields, "predicted_loss") if hasattr(detector, "predict_loss") else fields

    @property
    def prototypes(self) -> PrototypeBranch | None:
        """The prototypes of the auxiliary, or None."""
        modules = self.auxiliary.modules() if self.auxiliary is not None else ()
        return next((m for m in modules if isinstance(m, PrototypeBranch)), None)

    def begin_round(self, *, round_iters: int, step: int, fresh: bool) -> None:
        """A round of `round_iters` batches begins, or goes on after `step`. fresh: with the initial weights."""
        for module in self.model.modules():
            if isinstance(module, RoundClock):
                if fresh:
                    module.forget()
                module.set_clock(round_iters=round_iters, step=step)
