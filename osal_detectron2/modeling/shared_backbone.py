"""One backbone for both detectors of OSALRCNN."""

from contextlib import contextmanager

import torch
from detectron2.modeling import Backbone

MODES = ("own", "shared", "detached")


class SharedBackbone(Backbone):
    """The backbone of another detector, for a detector that owns none: no parameter and no key of a checkpoint here.

    In training, what the owner has just computed is used again (`reuse`), so the backbone runs once a step.
    """

    def __init__(self, owner: Backbone, *, detach: bool) -> None:
        """`detach`: the borrower's losses do not reach the backbone, so the owner trains as it would alone."""
        super().__init__()
        self._owner = (owner,)  # in a tuple, which nn.Module does not register
        self._detach = detach
        self._features: dict[str, torch.Tensor] | None = None

    @contextmanager
    def reuse(self):
        """What the owner computes within the context serves the next call here, its images or the first of them."""
        handle = self._owner[0].register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()
            # A step that failed between the two must leave nothing for other images.
            self._features = None

    def _keep(self, module, args, features) -> None:
        self._features = features

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """x (N, 3, H, W) -> {name: (N, C, h, w)}, as the owner."""
        features, self._features = self._features, None
        if features is None:
            features = self._owner[0](x)
        return {name: f[: len(x)].detach() if self._detach else f[: len(x)] for name, f in features.items()}

    def train(self, mode: bool = True) -> "SharedBackbone":
        """The owner's backbone follows: scoring switches the borrower alone to inference."""
        self._owner[0].train(mode)
        return super().train(mode)

    def output_shape(self):
        """As the owner's."""
        return self._owner[0].output_shape()

    @property
    def size_divisibility(self) -> int:
        """As the owner's."""
        return self._owner[0].size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """As the owner's."""
        return self._owner[0].padding_constraints
