"""LL4AL: the tiles whose loss is predicted to be largest (Yoo and Kweon 2019; methods section 3.5)."""

from .base import Pass, Query, QueryContext, Selection, Strategy, register, require_pool


@register
class LL4AL(Strategy):
    """Largest predicted loss of the whole pool; the head that predicts it is trained with the target.

    It costs a pass of the backbone and a small head. The prediction has the order of a loss, not its scale.
    """

    name = "ll4al"
    node = "LL4AL"
    overrides = {"MODEL.META_ARCHITECTURE": "LossPredictionRCNN"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield Pass(over=context.pool, source="loss")
        predicted = {k: float(table[k]["predicted_loss"][0]) for k in context.pool}
        selected = tuple(context.rank(context.pool, predicted)[: context.size])
        reasons = {
            k: f"rank {i} of {len(context.pool)}: predicted loss {predicted[k]:.3f}"
            for i, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores={"predicted_loss": predicted}, reasons=reasons)
