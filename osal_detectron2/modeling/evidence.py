"""Evidential classification uncertainty (paper Eq. 4) and the loss of trusted multi-view classification.

docs/reproducibility.md 2.5 and 2.6. Shape shorthand: R regions of interest, K classes, d features.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import cat
from torch import nn

from osal_detectron2.core.errors import ConfigError, check_choice

from .box_branch import BOX_BRANCH_REGISTRY, BoxBranch
from .round_clock import RoundClock

MODES = ("posthoc", "branch", "edl")
ACTIVATIONS = {"softplus": F.softplus, "relu": torch.relu, "exp": lambda x: x.clamp(-10, 10).exp()}


def activate(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """Non-negative evidence from logits: "relu", "softplus", or "exp" of the logits clamped to +-10."""
    check_choice("OSAL.EVIDENCE.ACTIVATION", kind, ACTIVATIONS)
    return ACTIVATIONS[kind](logits)


def vacuity(evidence: torch.Tensor) -> torch.Tensor:
    """Lack of evidence (Eq. 4): K / sum(e_k + 1) in (0, 1], for `evidence` (R, K); returns (R,).

    It measures how little evidence there is, not how much classes are confused.
    """
    return evidence.shape[1] / (evidence + 1).sum(dim=1)


def kl_to_uniform(alpha: torch.Tensor) -> torch.Tensor:
    """KL(Dir(alpha) || Dir(1)) >= 0 of `alpha` (R, K); 0, (R,), where there is no evidence at all (alpha 1)."""
    total = alpha.sum(dim=1, keepdim=True)
    num_classes = torch.full_like(total[:, 0], alpha.shape[1])
    return (
        total[:, 0].lgamma()
        - num_classes.lgamma()
        - alpha.lgamma().sum(dim=1)
        + ((alpha - 1) * (alpha.digamma() - total.digamma())).sum(dim=1)
    )


def tmc_loss(evidence: torch.Tensor, labels: torch.Tensor, kl_weight: float) -> torch.Tensor:
    """Evidential loss of each sample: digamma cross entropy plus a KL term against misplaced evidence.

    Args:
        evidence: (R, K), non-negative.
        labels: (R,) in [0, K).
        kl_weight: weight of KL(Dir(alpha~) || Dir(1)), alpha~ being alpha with the true class reset to 1.

    Returns:
        (R,), float32 at least.
    """
    alpha = evidence.float() + 1
    target = F.one_hot(labels, alpha.shape[1]).to(alpha.dtype)
    fit = (target * (alpha.sum(dim=1, keepdim=True).digamma() - alpha.digamma())).sum(dim=1)
    return fit + kl_weight * kl_to_uniform(target + (1 - target) * alpha)


class KLSchedule(RoundClock):
    """Weight of the KL term: from 0 to `kl_weight` over the first `anneal_fraction` of a round.

    Where the length of the round is not known (`round_iters` 0) the weight is full from the start.
    """

    def __init__(self, *, kl_weight: float, anneal_fraction: float, round_iters: int = 0):
        super().__init__(round_iters=round_iters)
        self.kl_weight, self.anneal_fraction = kl_weight, anneal_fraction

    @classmethod
    def from_cfg(cls, cfg):
        node = cfg.OSAL.EVIDENCE
        return cls(
            kl_weight=node.KL_WEIGHT, anneal_fraction=node.ANNEAL_FRACTION, round_iters=cfg.SOLVER.MAX_ITER
        )

    def advance(self) -> float:
        """The weight at this training step; each call is one step."""
        length = self.anneal_fraction * self.round_iters
        weight = self.kl_weight * (min(1.0, float(self.steps) / length) if length else 1.0)
        self.steps += 1
        return weight


@BOX_BRANCH_REGISTRY.register()
class EvidentialBranch(BoxBranch):
    """Gives each region `cls_uncertainty`, the vacuity over the foreground classes (background excluded).

    Modes:
        posthoc: ReLU of the ordinary classifier's foreground logits, no parameters, no loss [paper].
        branch: a linear evidential layer on detached features, trained on foreground regions; with `background`
            on background regions, too. The detector itself is the same as without it.
        edl: the classifier itself is evidential (`EvidentialOutputLayers`); its foreground evidence is used.
    """

    name = "evidence"
    field_names = ("cls_uncertainty",)

    @configurable
    def __init__(
        self,
        *,
        feature_dim: int,
        num_classes: int,
        mode: str = "posthoc",
        activation: str = "softplus",
        weight: float = 1.0,
        schedule: KLSchedule | None = None,
        background: bool = False,
    ):
        """
        Args:
            feature_dim: d, the length of the box head's output, flattened.
            num_classes: K, foreground classes of the detector.
            mode, activation: see above and `activate`; posthoc always takes the ReLU of Eq. 4.
            weight: weight of the loss of mode "branch".
            schedule: weight of the KL term, for mode "branch"; None is 1 throughout.
            background: of mode "branch": background is evidence of nothing. The loss gets the mean over background
                regions of KL(Dir(evidence + 1) || Dir(1)), weighed as the mean over foreground regions is.
        """
        super().__init__()
        check_choice("OSAL.EVIDENCE.MODE", mode, MODES)
        check_choice("OSAL.EVIDENCE.ACTIVATION", activation, ACTIVATIONS)
        if background and mode != "branch":
            raise ConfigError(
                f"OSAL.EVIDENCE.BACKGROUND True trains the layer of OSAL.EVIDENCE.MODE branch, and the mode is {mode}: "
                "set it to branch, or BACKGROUND to False"
            )
        self.mode, self.weight, self.num_classes, self.background = mode, weight, num_classes, background
        self.activation = "relu" if mode == "posthoc" else activation
        if mode == "branch":
            self.evidence = nn.Linear(feature_dim, num_classes)
            nn.init.normal_(self.evidence.weight, std=0.01)
            nn.init.zeros_(self.evidence.bias)
            self.schedule = schedule or KLSchedule(kl_weight=1.0, anneal_fraction=0.0)

    @classmethod
    def from_config(cls, cfg, feature_dim: int):
        node = cfg.OSAL.EVIDENCE
        return {
            "feature_dim": feature_dim,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "mode": node.MODE,
            "activation": node.ACTIVATION,
            "weight": node.WEIGHT,
            "schedule": KLSchedule.from_cfg(cfg),
            "background": node.BACKGROUND,
        }

    def _evidence(self, features: torch.Tensor, logits: torch.Tensor | None) -> torch.Tensor:
        if self.mode == "branch":
            logits = self.evidence(features.flatten(start_dim=1))
        return activate(logits[:, : self.num_classes].float(), self.activation)

    def fields(self, features: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Per region: `cls_uncertainty` (R,), from box features (R, ...) and classifier logits (R, K + 1)."""
        return {"cls_uncertainty": vacuity(self._evidence(features, logits))}

    def losses(self, features: torch.Tensor, proposals: list, num_classes: int) -> dict[str, torch.Tensor]:
        """Loss of mode "branch" over the regions that it is trained on; the other modes have none."""
        if self.mode != "branch":
            return {}
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        foreground = (gt_classes >= 0) & (gt_classes < num_classes)
        evidence = self._evidence(features[foreground].detach(), None)
        loss = tmc_loss(evidence, gt_classes[foreground], self.schedule.advance())
        # A sum over no region is a zero that still reaches the parameters.
        total = self.weight * loss.sum() / max(len(loss), 1)
        if self.background:
            nothing = self._evidence(features[gt_classes == num_classes].detach(), None)
            total = total + self.weight * kl_to_uniform(nothing + 1).sum() / max(len(nothing), 1)
        return {"loss_evidence": total}
