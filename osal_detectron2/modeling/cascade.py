"""Open-set ROI heads of a Cascade R-CNN.

Row i means the same region in every stage of inference, so one index aligns everything. Which stage speaks:
    pred_boxes     last stage, as in Detectron2
    scores         mean of the stages' probabilities, as in Detectron2
    logits, roi_feature and the fields of every branch
                   last stage: the features that its classifier reads, under the strictest IoU. The branches' losses
                   are taken there too, over the regions that this stage's matcher calls foreground
    loc_tightness  against the RPN's proposal, not the last stage's. It then means what Eq. 6 says and what it means in
                   other heads: how far the detector had to move the region. The last stage's proposal was regressed
                   twice already and lies closer, so the same nucleus would score otherwise than without a cascade
"""

import torch
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, CascadeROIHeads
from detectron2.modeling.roi_heads.cascade_rcnn import _ScaleGradient
from detectron2.utils.events import get_event_storage

from .old_heads import old_heads
from .roi_heads import OpenSetBoxHeads
from .unknown import leave_out_unknown


@ROI_HEADS_REGISTRY.register()
class OpenSetCascadeROIHeads(OpenSetBoxHeads, CascadeROIHeads):
    """For models with `CascadeROIHeads`; every stage has a predictor of ours, the last one the branches."""

    def _forward_box(self, features, proposals, targets=None):
        maps = [features[f] for f in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        regions, boxes, losses, scores = proposals, None, {}, []
        for stage, (head, predictor) in enumerate(zip(self.box_head, self.box_predictor)):
            if stage > 0:
                regions = self._create_proposals_from_boxes(boxes, sizes)
                if self.training:
                    regions = self._match_and_label_boxes(regions, stage, targets)
            pooled = self.box_pooler(maps, [r.proposal_boxes for r in regions])
            if self.training:  # all stages together pull at the backbone as one would
                pooled = _ScaleGradient.apply(pooled, 1.0 / self.num_cascade_stages)
            box_features = head(pooled)
            predictions = predictor(box_features)
            boxes = predictor.predict_boxes(predictions, regions)
            if self.training:
                with get_event_storage().name_scope(f"stage{stage}"):
                    named = predictor.losses(predictions, regions)
                losses.update({f"{name}_stage{stage}": value for name, value in named.items()})
            else:
                scores.append(predictor.predict_probs(predictions, regions))
        if self.training:
            return {**losses, **self._branch_losses(box_features, regions)}
        scores = [sum(image) * (1.0 / self.num_cascade_stages) for image in zip(*scores)]
        detections, rows = predictor.detect(boxes, scores, sizes)
        return self._with_fields(detections, rows, box_features, predictions[0].float(), proposals)

    @torch.no_grad()
    def _match_and_label_boxes(self, proposals, stage, targets):
        """As in `CascadeROIHeads`, without regions on unknown nuclei: each stage moves its regions anew."""
        proposals, known = leave_out_unknown(proposals, targets, self.num_classes)
        return super()._match_and_label_boxes(proposals, stage, known)


PrototypeCascadeROIHeads, EvidentialCascadeROIHeads, PrototypeEvidentialCascadeROIHeads = old_heads(
    OpenSetCascadeROIHeads
)
