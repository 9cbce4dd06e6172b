"""LL4AL: the tiles whose loss is predicted to be largest (Yoo and Kweon 2019; docs/reproducibility.md 3.5)."""

from dataclasses import dataclass

from .base import PredictedLoss, Query, QueryContext, Selection, Strategy, register, require_pool


@dataclass(frozen=True)
class LL4ALSettings:
    """Of the head of the target that predicts its loss (modeling/loss_prediction.py reads them)."""

    # Width of the layer behind each feature map of ROI_HEADS.IN_FEATURES.
    hidden: int = 128
    # The predictions of a pair of tiles should differ by this much. They have no scale of their own.
    margin: float = 1.0
    # Weight of the pair loss beside the detector's losses; 0 leaves the head untrained.
    weight: float = 1.0
    # After this fraction of a round the pair loss no longer reaches the backbone; 0: it never does, and the detector is
    # that of the other strategies. 1: always.
    detach_fraction: float = 0.8


@register
class LL4AL(Strategy):
    """Largest predicted loss of the whole pool; the head that predicts it is trained with the target.

    It costs a pass of the backbone and a small head. The prediction has the order of a loss, not its scale.
    """

    name = "ll4al"
    needs = {"target": ("predicted_loss",)}
    Settings, node = LL4ALSettings, "LL4AL"
    cost = {"target backbone": "U"}
    overrides = {"MODEL.META_ARCHITECTURE": "LossPredictionRCNN"}

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        table = yield PredictedLoss(over=context.pool)
        predicted = {k: float(table[k]["predicted_loss"][0]) for k in context.pool}
        selected = tuple(context.rank(context.pool, predicted)[: context.size])
        reasons = {
            k: f"rank {i} of {len(context.pool)}: predicted loss {predicted[k]:.3f}"
            for i, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores={"predicted_loss": predicted}, reasons=reasons)
