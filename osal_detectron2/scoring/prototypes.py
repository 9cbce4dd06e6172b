"""The refit of the prototypes before a query (paper 2.3, docs/reproducibility.md 2.4)."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ..modeling.prototypes import KNOWN, UNKNOWN, class_means, loss_terms
from ..strategies import GroundTruthFeatures
from .pool import PoolScorer


@contextmanager
def refitted_prototypes(
    scorer: PoolScorer, labelled: Sequence[str], *, num_known: int, enabled: bool
) -> Iterator[None]:
    """Inside the block, the prototypes minimise the summed loss over all labelled nuclei; after it, training's return.

    Restoring them keeps training a pure function of the ledger: a run that is resumed after the query does not
    repeat the refit. Collective.
    """
    branch = scorer.detectors.prototypes
    if branch is None or not enabled:
        yield
        return
    kept = {name: value.clone() for name, value in branch.state_dict().items()}
    table = scorer.run(GroundTruthFeatures(over=tuple(labelled), detector="auxiliary"))
    rows = [table[key] for key in sorted(table)]
    features = torch.as_tensor(np.concatenate([r["roi_feature"] for r in rows]))
    labels = torch.as_tensor(np.concatenate([r["classes"] for r in rows]) >= num_known).long()
    present = torch.stack([(labels == c).any() for c in (0, 1)])
    logger = logging.getLogger(__name__)
    if present.all():
        fitted, before, after = refit_prototypes(
            branch.normalize(features), labels, margin=branch.margin, balanced=branch.balanced
        )
        logger.info("prototype refit on %d nuclei: summed loss %.1f -> %.1f", len(labels), before, after)
        branch.set_prototypes(fitted.to(branch.prototypes.device), present.to(branch.prototypes.device))
    elif not present.any():
        logger.warning("no nucleus is labelled yet: the prototypes are those of training")
    else:
        means = torch.zeros_like(branch.prototypes)
        seen = int(present.nonzero()[0])
        means[seen] = branch.normalize(features).mean(0).to(means)
        branch.set_prototypes(means, present.to(means.device))
        logger.warning(
            "no %s nucleus is labelled yet: every detection counts as %s",
            ("known", "unknown")[1 - seen],
            ("known", "unknown")[seen],
        )
    try:
        yield
    finally:
        branch.load_state_dict(kept)


def refit_prototypes(
    features: torch.Tensor, labels: torch.Tensor, *, margin: float, balanced: bool = False, steps: int = 200
) -> tuple[torch.Tensor, float, float]:
    """Minimise the summed prototype loss over the prototypes, the features being fixed.

    The paper's "sum up the prototype loss for all nuclei in the auxiliary labeled pool to update the
    prototype" (docs/reproducibility.md 2.4). Starts at the class means and takes normalised subgradient steps of
    decreasing length. The sum falls apart into one problem a prototype, and each keeps the best point that it
    visited, so the loss never rises. Deterministic.

    Args:
        features: (n, d) features of all labelled nuclei; labels: (n,), 0 known, 1 unknown.
        margin: Delta of Eq. 2.
        balanced: weigh the two classes equally, whatever their numbers; the sum of the weights stays n.
        steps: number of subgradient steps.

    Returns:
        prototypes (2, d) in the type of `features`, the summed loss at the class means, and after the refit.
    """
    # Distances come from inner products, which is cheap but cancels: centre, and compute in double.
    points = features.detach().double()
    offset = points.mean(dim=0) if len(points) else points.new_zeros(points.shape[1])
    points = points - offset
    square_norms = points.square().sum(dim=1)
    prototypes, defined = class_means(points, labels)
    own = torch.stack([labels == KNOWN, labels == UNKNOWN], dim=1)
    share = torch.ones_like(square_norms)
    if balanced and defined.all():
        share = (own * (0.5 * len(labels) / own.sum(dim=0))).sum(dim=1)

    def evaluated(prototypes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances (n, 2), and the summed loss of each prototype (2,)."""
        squares = square_norms[:, None] - 2 * points @ prototypes.T + prototypes.square().sum(dim=1)
        distances = squares.clamp(min=0).add(1e-12).sqrt()
        return distances, (share[:, None] * loss_terms(distances, labels, defined, margin)).sum(dim=0)

    distances, first_loss = evaluated(prototypes)
    best, best_loss = prototypes, first_loss
    # The first step is half the spread of the class about its mean: the scale of any useful move.
    reach = 0.5 * (distances * own).sum(dim=0) / own.sum(dim=0).clamp(min=1)
    for step in range(steps):
        # d|f - p| / dp = (p - f) / |f - p|; own class pulls, the other pushes while within the margin.
        weights = share[:, None] * (own.double() - (~own & (distances < margin)).double()) / distances
        gradient = weights.sum(dim=0)[:, None] * prototypes - weights.T @ points
        direction = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
        prototypes = prototypes - (reach / (1 + step) ** 0.75)[:, None] * direction * defined[:, None]
        distances, losses = evaluated(prototypes)
        better = losses < best_loss
        best = torch.where(better[:, None], prototypes, best)
        best_loss = torch.where(better, losses, best_loss)
    fitted = torch.where(defined[:, None], best + offset, torch.zeros_like(best))
    return fitted.to(features.dtype), float(first_loss.sum()), float(best_loss.sum())
