"""PCSS without an auxiliary detector: the target itself tells known from unknown (docs/reproducibility.md 2.8)."""

from dataclasses import dataclass

from .base import Detections, Query, QueryContext, Selection, Strategy, register, require_pool
from .box_match import acquisition_set


@dataclass(frozen=True)
class PCSSByTargetSettings:
    """Which detections count."""

    # Detections of the target below this score do not, as those of the auxiliary in PCSS.
    score_thresh: float = 0.3


@register
class PCSSByTarget(Strategy):
    """Control: tiles with most nuclei that the target takes for a known class rather than for an unknown one.

    The target learns unknown nuclei as one more class (`OSAL.DATA.UNKNOWN_POLICY class`), so one detector serves both
    stages: half of the training of OSAL-ND. It counts detections of at least SCORE_THRESH whose score is above the
    posterior of the unknown class; ties by the mean of that difference.
    """

    name = "pcss_by_target"
    needs = {"target": ("unknown_score",)}
    Settings, node = PCSSByTargetSettings, "PCSS_BY_TARGET"
    cost = {"target": "U"}
    overrides = {"OSAL.DATA.UNKNOWN_POLICY": "class"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Detections(over=context.pool, fields=("unknown_score",))
        scores: dict[str, dict[str, float]] = {"n_detected": {}, "n_known": {}, "margin": {}}
        for key in context.pool:
            found = acquisition_set(table[key], score_thresh=self.settings.score_thresh)
            margin = found["scores"].astype(float) - found["unknown_score"]
            scores["n_detected"][key] = float(len(margin))
            scores["n_known"][key] = float((margin > 0).sum())
            scores["margin"][key] = float(margin.mean()) if len(margin) else 0.0
        scores["score"] = scores["n_known"]
        selected = tuple(context.rank(context.pool, scores["n_known"], scores["margin"])[: context.size])
        reasons = {
            k: f"rank {rank}: {scores['n_known'][k]:.0f} of {scores['n_detected'][k]:.0f} detections look known"
            for rank, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons)
