"""Prototypes of known and unknown nuclei: the loss that shapes them, and the branch that holds them.

docs/reproducibility.md 2.2 (paper Eqs. 1-2) and 2.4 (what makes prototypes converge).
Shape shorthand: R regions of interest, d features, column 0 known, column 1 unknown.
"""

import torch
import torch.distributed as dist
from detectron2.config import configurable
from detectron2.layers import cat
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import nn

from osal_detectron2.core.errors import check_choice

from .box_branch import BOX_BRANCH_REGISTRY, BoxBranch
from .round_clock import RoundClock
from .unknown import unknown_outputs

KNOWN, UNKNOWN = 0, 1
MODES = ("learnable", "ema", "mean")
NORMS = ("none", "scaled")


def prototype_distances(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (R, 2) from `features` (R, d) to `prototypes` (2, d), with a gradient at 0."""
    difference = features[:, None, :].float() - prototypes[None].float()
    return torch.sqrt(difference.square().sum(dim=2) + 1e-12)


def loss_terms(distances, labels, defined, margin):
    """(R, 2): the pull to the own prototype and the push from the other; 0 where there is no prototype."""
    own = torch.stack([labels == KNOWN, labels == UNKNOWN], dim=1)
    terms = torch.where(own, distances, (margin - distances).clamp(min=0))
    return terms * defined.to(terms.dtype)


def prototype_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    prototypes: torch.Tensor,
    defined: torch.Tensor,
    margin: float,
    balanced: bool = False,
) -> torch.Tensor:
    """Prototype loss of Eqs. 1-2, as a mean over regions.

    Args:
        features: (R, d). Without rows the loss is a zero that is still part of the graph.
        labels: (R,), 0 known, 1 unknown.
        prototypes: (2, d).
        defined: (2,) bool; terms of a prototype that is not defined are omitted.
        margin: the distance Delta beyond which the other class's prototype no longer repels.
        balanced: mean of the means of the classes that are present.
    """
    if len(features) == 0:
        return features.sum() * 0.0 + prototypes.sum() * 0.0
    distances = prototype_distances(features, prototypes)
    per_region = loss_terms(distances, labels, defined, margin).sum(dim=1)
    if not balanced:
        return per_region.mean()
    present = [per_region[labels == c] for c in (KNOWN, UNKNOWN)]
    return torch.stack([values.mean() for values in present if len(values)]).mean()


def class_means(features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean feature of each class.

    Returns:
        means (2, d), a zero row for a class without features, and (2,) bool: which classes have any.
    """
    # Sums, not a matrix product: mixed precision would round that to half.
    members = [features[labels == c] for c in (KNOWN, UNKNOWN)]
    means = torch.stack([m.sum(dim=0) / max(len(m), 1) for m in members])
    return means, torch.tensor([len(m) > 0 for m in members], device=features.device)


@BOX_BRANCH_REGISTRY.register()
class PrototypeBranch(BoxBranch, RoundClock):
    """Holds one prototype of the known and one of the unknown foreground class of a box head.

    The last foreground class of the detector is the unknown one and all others are known: classes
    (known, unknown) of the auxiliary detector, or K known classes and one for everything else. With `num_unknown`
    the last so many are.

    A prototype begins at the running mean of its class's features: at the end of a warm-up, or when the
    class is first seen if that is later. Only then does it take part in the loss; before, its distance is
    infinite. All state is in parameters and buffers, hence in every checkpoint.
    """

    name = "prototype"
    field_names = ("dist_known", "dist_unknown")

    @configurable
    def __init__(
        self,
        *,
        feature_dim: int,
        mode: str = "learnable",
        margin: float | None = 10.0,
        weight: float = 0.1,
        warmup_iters: int = 100,
        warmup_fraction: float = 0.1,
        momentum: float = 0.99,
        norm: str = "none",
        balanced: bool = False,
        round_iters: int = 0,
        num_unknown: int = 1,
    ):
        """
        Args:
            feature_dim: d, the length of the box head's output, flattened.
            mode: "learnable" parameters, "ema" of the class means, or "mean" of all features so far.
            margin: Delta of Eq. 2; None: |m_known - m_unknown|, of the running means when both prototypes are
                there first and at the end of each later warm-up.
            weight: weight of the loss.
            warmup_iters, warmup_fraction: the warm-up is max(warmup_iters, warmup_fraction * round_iters),
                but at most half of a round of known length: a short round must not end without prototypes.
            momentum: decay of the running class sums at each iteration in which the class occurs.
            norm: "none" raw features, "scaled" 10 * f / |f|.
            balanced: weigh the two classes equally.
            round_iters: see `RoundClock`.
            num_unknown: number of unknown foreground classes, the last ones.
        """
        super().__init__(round_iters=round_iters)
        self.num_unknown = num_unknown
        check_choice("OSAL.PROTOTYPE.MODE", mode, MODES)
        check_choice("OSAL.PROTOTYPE.NORM", norm, NORMS)
        self.mode, self.fixed_margin, self.weight = mode, margin, weight
        self.norm, self.balanced = norm, balanced
        self.warmup_iters, self.warmup_fraction = warmup_iters, warmup_fraction
        self.decay = 1.0 if mode == "mean" else momentum
        self.prototypes = nn.Parameter(torch.zeros(2, feature_dim), requires_grad=mode == "learnable")
        self.register_buffer("feature_sums", torch.zeros(2, feature_dim))
        self.register_buffer("feature_counts", torch.zeros(2))
        self.register_buffer("initialised", torch.zeros(2, dtype=torch.bool))
        if margin is None:  # else no such buffer: checkpoints of before have none
            self.register_buffer("separation", torch.zeros(()))

    @classmethod
    def from_config(cls, cfg, feature_dim: int):
        node = cfg.OSAL.PROTOTYPE
        return {
            "feature_dim": feature_dim,
            "mode": node.MODE,
            "margin": None if node.TIED_MARGIN else node.MARGIN,
            "weight": node.WEIGHT,
            "warmup_iters": node.WARMUP_ITERS,
            "warmup_fraction": node.WARMUP_FRACTION,
            "momentum": node.MOMENTUM,
            "norm": node.NORM,
            "balanced": node.BALANCED,
            "round_iters": cfg.SOLVER.MAX_ITER,
            "num_unknown": max(1, unknown_outputs(cfg)),
        }

    @property
    def margin(self) -> float:
        """Delta of Eq. 2; of a tied margin 0, which pushes nothing, until both classes have been seen."""
        return float(self.separation) if self.fixed_margin is None else self.fixed_margin

    @property
    def warmup(self) -> int:
        """Iterations without prototype loss at the start of a round."""
        wanted = max(self.warmup_iters, round(self.warmup_fraction * self.round_iters))
        return min(wanted, self.round_iters // 2) if self.round_iters else wanted

    @torch.no_grad()
    def forget(self) -> None:
        """Forget all prototypes and running means."""
        for tensor in (self.prototypes, *self.buffers()):
            tensor.zero_()

    @torch.no_grad()
    def set_prototypes(self, prototypes: torch.Tensor, defined: torch.Tensor) -> None:
        """Put `prototypes` (2, d) in place, those that are `defined` (2,); the others are unset."""
        self.prototypes.copy_(torch.where(defined[:, None].to(prototypes.device), prototypes, 0.0))
        self.initialised.copy_(defined)

    def normalize(self, features: torch.Tensor) -> torch.Tensor:
        """The space in which distances are taken: float32 (R, d), scaled if `norm` says so."""
        features = features.flatten(start_dim=1).float()
        if self.norm == "scaled":
            features = 10.0 * nn.functional.normalize(features, dim=1)
        return features

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """Distances (R, 2) from box `features` (R, ...); infinite to a prototype that is not defined."""
        distances = prototype_distances(self.normalize(features), self.prototypes)
        return distances.masked_fill(~self.initialised, float("inf"))

    def fields(self, features: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Per region: `dist_known` and `dist_unknown`, each (R,)."""
        distances = self.distances(features)
        return {"dist_known": distances[:, KNOWN], "dist_unknown": distances[:, UNKNOWN]}

    def losses(self, features: torch.Tensor, proposals: list, num_classes: int) -> dict[str, torch.Tensor]:
        """Loss over the foreground regions; the unknown classes are the last ones."""
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        foreground = (gt_classes >= 0) & (gt_classes < num_classes)
        embedded = self.normalize(features[foreground])
        labels = (gt_classes[foreground] >= num_classes - self.num_unknown).long()
        self._observe(embedded.detach(), labels)
        loss = prototype_loss(embedded, labels, self.prototypes, self.initialised, self.margin, self.balanced)
        # Always part of the graph: DistributedDataParallel waits for every parameter.
        loss = loss + self.prototypes.sum() * 0.0
        self._log(embedded.detach(), labels)
        return {"loss_prototype": self.weight * loss}

    @torch.no_grad()
    def _observe(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Update the running class means, and the prototypes that come from them."""
        means, _ = class_means(features, labels)
        counts = torch.stack([labels == KNOWN, labels == UNKNOWN]).sum(dim=1).to(means.dtype)
        batch = torch.cat([means * counts[:, None], counts[:, None]], dim=1)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(batch)
        # A class that is absent keeps its sums: decayed to nothing, they would divide 0 by 0.
        present = batch[:, -1] > 0
        decay = torch.where(present, self.decay, 1.0)
        self.feature_sums.mul_(decay[:, None]).add_(batch[:, :-1])
        self.feature_counts.mul_(decay).add_(batch[:, -1])
        self.steps += 1
        # The warm-up of a round is for prototypes that are not there yet: some may have come from the round before.
        start = (self.feature_counts > 0) & ~self.initialised & (self.steps > self.warmup)
        moved = start if self.mode == "learnable" else (present & self.initialised) | start
        running = self.feature_sums / self.feature_counts.clamp(min=1e-12)[:, None]
        self.prototypes.copy_(torch.where(moved[:, None], running, self.prototypes))
        self.initialised |= start
        unset = self.fixed_margin is None and (self.separation == 0 or self.steps == self.warmup + 1)
        if unset and self.initialised.all():
            self.separation.copy_((running[KNOWN] - running[UNKNOWN]).norm())

    @torch.no_grad()
    def _log(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Distances to the own and to the other prototype, and the share that the margin still pushes."""
        if len(features) == 0 or not has_event_storage() or not bool(self.initialised.all()):
            return
        distances = prototype_distances(features, self.prototypes)
        rows = torch.arange(len(labels), device=labels.device)
        own, other = distances[rows, labels], distances[rows, 1 - labels]
        values = torch.stack([own.mean(), other.mean(), (other < self.margin).float().mean()])
        names = ("distance_same", "distance_other", "hinge_active")
        for name, value in zip(names, values.tolist()):
            get_event_storage().put_scalar(f"prototype/{name}", value)
