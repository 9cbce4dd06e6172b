"""The refit of the prototypes before a query (paper 2.3, docs/reproducibility.md 2.4)."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ..modeling.prototypes import refit_prototypes
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
