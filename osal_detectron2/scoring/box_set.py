"""The target's boxes that a strategy gets to see (OSAL.SCORING.ONE_BOX_PER_NUCLEUS, KNOWN_BOXES_ONLY)."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..strategies import Detections, Pass, QueryContext, Strategy
from ..strategies.box_match import with_boxes_on, with_one_box_a_nucleus
from ..strategies.prototype_count import looks_known
from .pool import PoolScorer, Table

Needs = Mapping[str, tuple[str, ...]]
_DISTANCES = ("dist_known", "dist_unknown")


def needs_for_known_boxes(needs: Needs) -> Needs:
    """What a strategy must have so that it sees boxes on known nuclei alone: distances of an auxiliary, if it looks at
    detections of the target and has no auxiliary of its own kind, as LfOSA has."""
    fields = needs.get("auxiliary")
    if (
        not needs.get("target")
        or "predicted_loss" in needs["target"]
        or (fields and "dist_known" not in fields)
    ):
        return needs
    return {**needs, "auxiliary": fields or _DISTANCES}


def box_set(
    request: Pass, table: Table, strategy: Strategy, context: QueryContext, scorer: PoolScorer
) -> Table:
    """`table`, the answer to `request`, without the boxes that `context` says a strategy is not to see. Collective.

    For known boxes the auxiliary looks at the same tiles in the same view.
    """
    if not isinstance(request, Detections) or request.detector != "target":
        return table
    if context.one_box_per_nucleus:
        table = {key: with_one_box_a_nucleus(row) for key, row in table.items()}
    if context.known_boxes_only and "auxiliary" in strategy.needs:
        fields = tuple(f for f in _DISTANCES if f in strategy.needs["auxiliary"])
        asked = replace(request, detector="auxiliary", fields=fields, reference=None)
        auxiliary = scorer.run(asked, seed=context.seed, round_index=context.round_index)
        unknown = len(context.known_classes)
        nuclei = {
            k: np.asarray(row["boxes"])[looks_known(row, unknown=unknown)] for k, row in auxiliary.items()
        }
        table = {key: with_boxes_on(row, nuclei[key]) for key, row in table.items()}
    return table
