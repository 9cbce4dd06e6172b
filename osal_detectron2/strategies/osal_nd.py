"""OSAL-ND and its four ablations (paper sections 2.3 and 2.4, docs/reproducibility.md 2.3 to 2.8).

Stage one (PCSS) keeps the CAND_FACTOR * budget tiles with most known nuclei by the auxiliary detector's prototypes.
Stage two (UTSS) queries those where the target's CI * LI is largest. An ablation leaves out a stage or a factor.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

from ..core.errors import check_choice
from .base import Detections, Pass, Query, QueryContext, Selection, Strategy, Table, register, require_pool
from .prototype_count import COUNT_RULES, count_known, warn_if_blind
from .tile_means import localization_uncertainty, mean_vacuity

_PROTOTYPE_FIELDS = ("dist_known", "dist_unknown")
_UNCERTAINTY_FIELDS = ("cls_uncertainty", "loc_tightness")
# Stage one, with the refit of the prototypes on the labelled nuclei (OSAL.PROTOTYPE.REFIT); stage two.
_PCSS_COST = {"auxiliary": "U", "auxiliary ground truth": "L"}
_UTSS_COST = {"target": "2 * N"}


@dataclass(frozen=True)
class PCSSSettings:
    """Of stage one. Raises ConfigError for an unknown count rule."""

    # Candidate set = CAND_FACTOR * budget tiles [paper: 2N].
    cand_factor: float = 2.0
    # What counts as a known nucleus: "proto" nearer to the known prototype, "label" head says known, "both".
    count_rule: str = "proto"

    def __post_init__(self) -> None:
        check_choice("OSAL.PCSS.COUNT_RULE", self.count_rule, COUNT_RULES)


@register
class OSALND(Strategy):
    """The full method."""

    name = "osal_nd"
    needs = {"auxiliary": _PROTOTYPE_FIELDS, "target": _UNCERTAINTY_FIELDS}
    Settings, node = PCSSSettings, "PCSS"
    cost = _PCSS_COST | _UTSS_COST
    use_pcss = use_ci = use_li = True

    @property
    def count_rule(self) -> str:
        return self.settings.count_rule

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        scores: dict[str, dict[str, float]] = {}
        candidates = list(context.pool)
        if self.use_pcss:
            candidates = yield from self.stage_one(context, scores)
            if self.use_ci or self.use_li:
                candidates = self.cut(candidates, context)
        if self.use_ci or self.use_li:
            table = yield Detections(over=tuple(candidates), detector="target", fields=_UNCERTAINTY_FIELDS)
            threshold = context.score_thresh
            scores["ci"] = {k: mean_vacuity(table[k], score_thresh=threshold) for k in candidates}
            scores["li"] = {k: localization_uncertainty(table[k], score_thresh=threshold) for k in candidates}
            scores["score"] = {
                k: (scores["ci"][k] if self.use_ci else 1.0) * (scores["li"][k] if self.use_li else 1.0)
                for k in candidates
            }
            ranked = context.rank(candidates, scores["score"])
        else:
            scores["score"] = scores["n_known"]
            ranked = candidates
        selected = tuple(ranked[: context.size])
        reasons = {
            k: self._reason(k, rank, len(candidates), scores) for rank, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons, candidates=tuple(candidates))

    def stage_one(self, context: QueryContext, scores: dict) -> Generator[Pass, Table, list[str]]:
        """The whole pool, most known nuclei first; fills `scores` with the counts."""
        table = yield Detections(over=context.pool, detector="auxiliary", fields=_PROTOTYPE_FIELDS)
        counted = {k: count_known(table[k], rule=self.count_rule) for k in context.pool}
        scores["n_known"] = {k: float(n) for k, (n, _) in counted.items()}
        scores["margin"] = {k: m for k, (_, m) in counted.items()}
        scores["n_detected"] = {k: float(len(table[k]["scores"])) for k in context.pool}
        warn_if_blind(table)
        return context.rank(context.pool, scores["n_known"], scores["margin"])

    def cut(self, ranked: list[str], context: QueryContext) -> list[str]:
        """The candidates: at least the budget itself, so that a factor below one cannot starve stage two."""
        return ranked[: max(context.size, math.floor(self.settings.cand_factor * context.size))]

    def _reason(self, key: str, rank: int, candidates: int, scores: dict[str, dict[str, float]]) -> str:
        parts = []
        if self.use_pcss:
            parts.append(f"{scores['n_known'][key]:.0f} of {scores['n_detected'][key]:.0f} nuclei look known")
        if self.use_ci:
            parts.append(f"class uncertainty {scores['ci'][key]:.3f}")
        if self.use_li:
            parts.append(f"box uncertainty {scores['li'][key]:.3f}")
        return f"rank {rank} of {candidates} candidates: " + ", ".join(parts)


@register
class WithoutCI(OSALND):
    """PCSS, then localisation uncertainty alone."""

    name = "osal_nd_wo_ci"
    use_ci = False


@register
class WithoutLI(OSALND):
    """PCSS, then classification uncertainty alone."""

    name = "osal_nd_wo_li"
    use_li = False


@register
class UTSS(OSALND):
    """No stage one: CI * LI over the whole pool. Needs no auxiliary detector."""

    name = "utss"
    needs = {"target": _UNCERTAINTY_FIELDS}
    cost = {"target": "U"}
    use_pcss = False


@register
class PCSS(OSALND):
    """No stage two: the budget goes to the tiles with most known nuclei."""

    name = "pcss"
    needs = {"auxiliary": _PROTOTYPE_FIELDS}
    cost = _PCSS_COST
    use_ci = use_li = False


@register
class PCSSByLabel(PCSS):
    """Control: PCSS that believes the auxiliary head's own label and no prototype (docs/reproducibility.md 2.8)."""

    name = "pcss_by_label"
    count_rule = "label"


@register
class RandomFromCandidates(OSALND):
    """Control: stage one as in OSAL-ND, then a random draw from the candidates (docs/reproducibility.md 2.8).

    Its draw is the order of Random restricted to the candidates, so that the two differ by stage one alone.
    """

    name = "random_from_candidates"
    needs = {"auxiliary": _PROTOTYPE_FIELDS}
    cost = _PCSS_COST

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        scores: dict[str, dict[str, float]] = {}
        ranked = yield from self.stage_one(context, scores)
        candidates = self.cut(ranked, context)
        selected = tuple(context.rank(candidates)[: context.size])
        reasons = {
            k: f"drawn at random from {len(candidates)} candidates; {scores['n_known'][k]:.0f} nuclei look known"
            for k in selected
        }
        return Selection(selected=selected, scores=scores, reasons=reasons, candidates=tuple(candidates))
