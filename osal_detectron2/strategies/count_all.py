"""COUNT_ALL: the density control (docs/reproducibility.md 2.3). How much of PCSS is due to its prototypes?"""

from .base import Detections, Query, QueryContext, Selection, Strategy, register, require_pool


@register
class CountAll(Strategy):
    """Tiles with most detections of the auxiliary detector, whatever their class; ties by mean score.

    It uses the same auxiliary detections as PCSS, after the same threshold and suppression, and ignores the
    prototypes: the difference to PCSS is the prototypes alone.
    """

    name = "count_all"
    needs = {"auxiliary": ()}
    cost = {"auxiliary": "U"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Detections(over=context.pool, detector="auxiliary")
        count = {k: float(len(table[k]["scores"])) for k in context.pool}
        mean = {k: float(table[k]["scores"].mean()) if count[k] else 0.0 for k in context.pool}
        selected = tuple(context.rank(context.pool, count, mean)[: context.size])
        reasons = {k: f"rank {i}: {count[k]:.0f} nuclei detected" for i, k in enumerate(selected, start=1)}
        scores = {"n_detected": count, "mean_score": mean, "score": count}
        return Selection(selected=selected, scores=scores, reasons=reasons)
