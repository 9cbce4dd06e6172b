"""OSAL-ND+: what each tile teaches about nuclei that look known, and that the others do not teach as well.

Where it departs from OSAL-ND (each part can be switched off by a key of OSAL.PLUS):
  purity as an expectation   a nucleus counts with the auxiliary classifier's probability of being known, not with
                             the yes or no of two prototypes;
  information as a sum       a tile is worth the sum of its nuclei's uncertainties. A mean, as in Eqs. 5 and 6,
                             prefers the tile with one doubtful nucleus to the tile with fifty;
  diversity in the batch     greedily, a tile is worth less the nearer it is to a labelled or chosen tile.
"""

import numpy as np

from ..core.errors import ConfigError
from .base import Pass, Query, QueryContext, Selection, Strategy, register, require_pool
from .base import Table as Tables
from .box_match import best_match
from .coreset import k_center_greedy, nearest_distance
from .posteriors import entropy, softmax

INFORMATION = ("entropy", "evidence", "count")
_BACKGROUND = -1


@register
class OSALNDPlus(Strategy):
    """See the module.

    Args:
        information: of one nucleus: "entropy" of the target's posterior over K + 1 classes divided by ln(K + 1);
            "evidence" Un * (1 - tightness) of Eqs. 4 and 6 for this box; "count" 1.
        purity: weigh a nucleus by the probability of being known.
        diversity: greedy batch; without it, the tiles with most information.
        target_score_thresh: target detections below it take no part.
    """

    name = "osal_nd_plus"
    node = "PLUS"
    # The auxiliary as a plain detector of known and unknown: the prototype loss costs it detections
    # (benchmarks/README.md), and nothing here reads a prototype.
    overrides = {"OSAL.PROTOTYPE.ENABLED": False}
    needs = {"auxiliary": ("logits",), "target": ("logits", "cls_uncertainty", "loc_tightness")}

    def __init__(
        self,
        *,
        information: str = "entropy",
        purity: bool = True,
        diversity: bool = True,
        target_score_thresh: float = 0.05,
    ) -> None:
        if information not in INFORMATION:
            raise ConfigError(
                f"OSAL.PLUS.INFORMATION: {information!r} is not one of {', '.join(INFORMATION)}"
            )
        self.information, self.purity, self.diversity = information, purity, diversity
        self.target_score_thresh = target_score_thresh

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        scores: dict[str, dict[str, float]] = {}
        target = yield Pass(over=context.pool, fields=self.needs["target"])
        gain = {k: self._information(target[k]) for k in context.pool}
        if self.purity:
            auxiliary = yield Pass(over=context.pool, detector="auxiliary", fields=("logits",))
            known = {k: looks_known(target[k]["boxes"], auxiliary[k]) for k in context.pool}
            gain = {k: gain[k] * known[k] for k in context.pool}
            scores["expected_known"] = {k: float(known[k][self._kept(target[k])].sum()) for k in context.pool}
        scores["information"] = {k: float(v.sum()) for k, v in gain.items()}
        ranked = context.rank(context.pool, scores["information"])
        if self.diversity:
            labelled = tuple(sorted(context.labelled))
            images = yield Pass(over=(*ranked, *labelled), source="image")
            scores["novelty"], ranked = self._diverse(
                context, ranked, labelled, images, scores["information"]
            )
        selected = tuple(ranked[: context.size])
        reasons = {
            k: f"rank {i}: " + ", ".join(f"{name.replace('_', ' ')} {c[k]:.2f}" for name, c in scores.items())
            for i, k in enumerate(selected, start=1)
        }
        return Selection(selected=selected, scores=scores, reasons=reasons)

    def _kept(self, detections) -> np.ndarray:
        return np.asarray(detections["scores"]) >= self.target_score_thresh

    def _information(self, detections) -> np.ndarray:
        """(B,) of one tile; 0 for boxes below the threshold."""
        kept = self._kept(detections)
        if self.information == "count":
            return kept.astype(np.float64)
        if self.information == "entropy":
            posterior = softmax(detections["logits"])
            return kept * entropy(posterior) / np.log(posterior.shape[1])
        return (
            kept * detections["cls_uncertainty"] * (1.0 - np.asarray(detections["loc_tightness"], np.float64))
        )

    @staticmethod
    def _diverse(context, ranked, labelled, images, information) -> tuple[dict[str, float], list[str]]:
        points, centres = (
            np.array([images[k]["image_feature"] for k in keys]) for keys in (ranked, labelled)
        )
        centres = centres if labelled else points.mean(axis=0, keepdims=True)
        gain = np.array([information[k] for k in ranked])
        # Both factors relative to their largest value; rounded as in `context.rank`, whose order breaks the ties.
        gain = gain / max(gain.max(), 1e-12)
        scale = max(nearest_distance(points, centres).max(), 1e-12)

        def choose(distance: np.ndarray) -> int:
            worth = gain * distance.clip(min=0) / scale
            return int(np.argmax(np.where(distance < 0, -1.0, worth.round(5))))

        chosen, novelty = k_center_greedy(points, centres, size=context.size, choose=choose)
        order = [ranked[i] for i in chosen]
        return dict(zip(order, novelty)), order


def looks_known(boxes: np.ndarray, auxiliary: Tables, *, min_iou: float = 0.5) -> np.ndarray:
    """Probability (B,) that each target box is a known nucleus, by the auxiliary detector.

    Args:
        boxes: (B, 4) xyxy target boxes.
        auxiliary: boxes (A, 4) and logits (A, 3) known, unknown, background of the same tile.
        min_iou: a target box takes P(known) of the auxiliary box that it overlaps most; 0 where no overlap
            reaches `min_iou`: the auxiliary detector sees no nucleus there.
    """
    if not len(boxes) or not len(auxiliary["boxes"]):
        return np.zeros(len(boxes))
    rows, overlap = best_match(boxes, auxiliary["boxes"])
    return np.where(overlap >= min_iou, softmax(auxiliary["logits"])[rows, 0], 0.0)
