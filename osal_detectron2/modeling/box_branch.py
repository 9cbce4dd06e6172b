"""Box branches: small modules beside the box predictor of open-set ROI heads, chosen by name.

MODEL.ROI_HEADS.BOX_BRANCHES names those of the target, OSAL.AUXILIARY.BOX_BRANCHES those of the auxiliary. One of your
own is a class in a file that you import (docs/plug_in_head.md).
"""

from collections.abc import Sequence

import torch
from fvcore.common.registry import Registry
from torch import nn

from ..core.errors import ConfigError

BOX_BRANCH_REGISTRY = Registry("BOX_BRANCH")
"""Box branches by class name. Each is called with (cfg, feature_dim): d, the length of a box feature, flattened."""


class BoxBranch(nn.Module):
    """Base of all box branches; one without parameters is a branch, too.

    Attributes:
        name: of its weights in a checkpoint, roi_heads.box_branches.<name>.*
        field_names: what it puts on detections.
    """

    name: str
    field_names: tuple[str, ...] = ()

    def losses(self, features: torch.Tensor, proposals: list, num_classes: int) -> dict[str, torch.Tensor]:
        """Scalar losses, over sampled proposals.

        Args:
            features: (R, ...) box features.
            proposals: list[Instances] with `gt_classes`, R in all, in the order of `features`.
            num_classes: foreground classes of the detector; a proposal with that class is background.
        """
        return {}

    def fields(self, features: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """For each of `field_names` a tensor (R, ...), from box features (R, ...) and classifier logits (R, C + 1)."""
        return {}


def build_box_branches(cfg, *, feature_dim: int) -> dict[str, BoxBranch]:
    """The branches of cfg.MODEL.ROI_HEADS.BOX_BRANCHES, in this order, by `name`.

    Raises ConfigError for a name that is not registered and for two branches of one name.
    """
    branches: dict[str, BoxBranch] = {}
    for branch in (
        found_branch(name)(cfg, feature_dim=feature_dim) for name in cfg.MODEL.ROI_HEADS.BOX_BRANCHES
    ):
        if branch.name in branches:
            raise ConfigError(f"BOX_BRANCHES: two of them are called '{branch.name}'; name each once")
        branches[branch.name] = branch
    return branches


def found_branch(name: str) -> type[BoxBranch]:
    """The class registered as `name`. Raises ConfigError, with all names, if there is none."""
    if name not in BOX_BRANCH_REGISTRY:
        raise ConfigError(
            f"BOX_BRANCHES: there is no box branch {name!r}; choose of {', '.join(dict(BOX_BRANCH_REGISTRY))}, or "
            "import the file that registers it (docs/plug_in_head.md)"
        )
    return BOX_BRANCH_REGISTRY.get(name)


def branches_with(fields: Sequence[str]) -> list[str]:
    """Names of the branches that put any of `fields` on detections."""
    return [name for name, branch in BOX_BRANCH_REGISTRY if set(branch.field_names) & set(fields)]
