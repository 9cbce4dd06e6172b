"""ROI heads whose detections carry what open-set active learning asks of them.

`OpenSet` and the name of Detectron2's heads: Standard (FPN, DC5) and Res5 (C4) here, Cascade in `modeling.cascade`.
The fields of their box branches (`modeling.box_branch`) arrive on the detections, together with
    loc_tightness  IoU of the final box and the RPN's proposal that it was regressed from (Eq. 6), in
                   network-input coordinates
    logits         (n, K + 1) classifier outputs; classes for unknown nuclei are counted to the background, the last
    unknown_score  (n,) their posterior, only of a detector that has such classes (`modeling.unknown`)
    roi_feature    (n, d) box features, only while `keep_roi_features` is True
all as plain tensors that pass through `detector_postprocess` unchanged.
"""

from contextlib import contextmanager

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    Res5ROIHeads,
    StandardROIHeads,
    select_foreground_proposals,
)
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou
from torch import nn

from osal_detectron2.core.errors import ConfigError

from .box_branch import build_box_branches, found_branch
from .evidence import EvidentialBranch
from .fast_rcnn import EvidentialOutputLayers, OpenSetFastRCNNOutputLayers
from .features import pool_box_features
from .mixing import check_bases, check_branches_ran, check_point_head, check_predictors, check_upright
from .old_heads import old_heads
from .unknown import fold_logits, leave_out_unknown, unknown_outputs, with_unknown_outputs


def box_predictors(roi_heads) -> list[nn.Module]:
    """The box predictors of any ROI heads: one, or one of each stage of a cascade."""
    predictor = roi_heads.box_predictor
    return list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]


class OpenSetBoxHeads:
    """Mixin for ROI heads: branches, fields, and unknown nuclei out of the loss.

    The mask and keypoint branches are those of the class that it is mixed into.

    Annotated instances with `gt_classes` of `num_classes` or more are unknown: proposals on them are not
    sampled ("ignore" in docs/reproducibility.md row 3). Without these, training is Detectron2's. `num_classes` counts
    the classes for unknown nuclei that the box predictor hides, so with these ("class", "classes") none are left out.
    """

    _version = 1
    replaces = "_forward_box"  # the method of the heads that ours takes the place of

    @configurable
    def __init__(
        self, *, box_branches: dict[str, nn.Module] | None = None, keep_roi_features=False, **kwargs
    ):
        """
        Args:
            box_branches: name -> branch.
            keep_roi_features: put the box features on the detections.
            kwargs: arguments of the ROI heads; `box_predictor` (in a cascade each of `box_predictors`) must be an
                `OpenSetFastRCNNOutputLayers`.

        Raises:
            ConfigError: another box predictor; bases of a project in an order that drops one's work (modeling.mixing).
        """
        cls = type(self)
        ours = [c for c in cls.__mro__ if issubclass(c, OpenSetBoxHeads) and self.replaces in vars(c)][-1]
        check_bases(cls, ours=ours, replaced=self.replaces, keyword_only=OpenSetBoxHeads)
        super().__init__(**kwargs)
        self.box_branches = nn.ModuleDict(box_branches or {})
        self.keep_roi_features = keep_roi_features
        edl = any(isinstance(b, EvidentialBranch) and b.mode == "edl" for b in self.box_branches.values())
        check_predictors(cls.__name__, box_predictors(self), evidential=edl)
        self.branches_ran = False
        self.register_forward_hook(check_branches_ran)

    @classmethod
    def from_config(cls, cfg, input_shape):
        check_upright(cfg, names=(cfg.MODEL.ROI_HEADS.NAME,))
        cfg = with_unknown_outputs(cfg)
        check_point_head(cfg)
        ret = super().from_config(cfg, input_shape)
        if "box_predictors" in ret:
            ret["box_predictors"] = [cls._open_set_predictor(cfg, p) for p in ret["box_predictors"]]
            last = ret["box_predictors"][-1]
        else:
            last = ret["box_predictor"] = cls._open_set_predictor(cfg, ret["box_predictor"])
        return {**ret, "box_branches": build_box_branches(cfg, feature_dim=last.cls_score.in_features)}

    @classmethod
    def _open_set_predictor(cls, cfg, plain: nn.Module) -> OpenSetFastRCNNOutputLayers:
        """Our predictor in place of Detectron2's, with its box regression; a project's own is kept or refused."""
        if type(plain) is not FastRCNNOutputLayers:
            check_predictors(cls.__name__, [plain])
            if plain.num_unknown != unknown_outputs(cfg):
                raise ConfigError(
                    f"{cls.__name__}: OSAL.DATA.UNKNOWN_POLICY {cfg.OSAL.DATA.UNKNOWN_POLICY} takes a predictor with "
                    f"num_unknown {unknown_outputs(cfg)}, and {type(plain).__name__} was built with "
                    f"{plain.num_unknown}; hand on what OpenSetFastRCNNOutputLayers.from_config returns"
                )
            return plain
        branches = map(found_branch, cfg.MODEL.ROI_HEADS.BOX_BRANCHES)
        edl = cfg.OSAL.EVIDENCE.MODE == "edl" and any(issubclass(b, EvidentialBranch) for b in branches)
        predictor = EvidentialOutputLayers if edl else OpenSetFastRCNNOutputLayers
        shape = ShapeSpec(channels=plain.cls_score.in_features)
        return predictor(cfg, shape, box2box_transform=plain.box2box_transform)

    @property
    def detection_fields(self) -> tuple[str, ...]:
        """Names of all fields that detections can carry."""
        names = ["loc_tightness", "logits", "roi_feature"]
        if box_predictors(self)[-1].num_unknown:
            names.append("unknown_score")
        for branch in self.box_branches.values():
            names += branch.field_names
        return tuple(names)

    @contextmanager
    def keeping_features(self):
        """While open, detections have `roi_feature`."""
        kept, self.keep_roi_features = self.keep_roi_features, True
        try:
            yield
        finally:
            self.keep_roi_features = kept

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals, targets):
        return super().label_and_sample_proposals(*leave_out_unknown(proposals, targets, self.num_classes))

    def _box_losses(self, box_features, predictions, proposals) -> dict[str, torch.Tensor]:
        losses = self.box_predictor.losses(predictions, proposals)
        return {**losses, **self._branch_losses(box_features, proposals)}

    def _branch_losses(self, box_features, proposals) -> dict[str, torch.Tensor]:
        self.branches_ran, losses = True, {}
        for branch in self.box_branches.values():
            losses.update(branch.losses(box_features, proposals, self.num_classes))
        return losses

    def _box_detections(self, box_features, predictions, proposals) -> list:
        detections, rows = self.box_predictor.inference(predictions, proposals)
        return self._with_fields(detections, rows, box_features, predictions[0].float(), proposals)

    def _with_fields(self, detections, rows, box_features, logits, proposals) -> list:
        """Put the fields on `detections`; `rows`, for each image, are those of its `proposals` that they came from."""
        self.branches_ran = True
        fields = {"logits": fold_logits(logits, box_predictors(self)[-1].num_unknown)}
        for branch in self.box_branches.values():
            fields.update(branch.fields(box_features, logits))
        if self.keep_roi_features:
            fields["roi_feature"] = box_features.flatten(start_dim=1).float()
        sizes = [len(p) for p in proposals]
        per_image = zip(*(values.split(sizes) for values in fields.values()))
        for found, kept, proposal, values in zip(detections, rows, proposals, per_image):
            tightness = matched_pairwise_iou(found.pred_boxes, proposal.proposal_boxes[kept])
            found.loc_tightness = tightness.nan_to_num(nan=0.0)  # 0 / 0 for two empty boxes
            for name, value in zip(fields, values):
                found.set(name, value[kept])
        return detections

    def __prepare_scriptable__(self):
        """torch.jit.script asks first. Fields that come and go cannot be scripted."""
        raise ConfigError(
            f"{type(self).__name__} cannot be scripted: trace the detector with osal_detectron2.deploy.export.trace, "
            "or script the plain head, which loads the same checkpoint (docs/plug_in_head.md)"
        )


@ROI_HEADS_REGISTRY.register()
class OpenSetStandardROIHeads(OpenSetBoxHeads, StandardROIHeads):
    """For FPN and DC5 models."""

    def _forward_box(self, features, proposals):
        box_features = pool_box_features(self, features, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(box_features)
        if not self.training:
            return self._box_detections(box_features, predictions, proposals)
        losses = self._box_losses(box_features, predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for proposal, box in zip(proposals, boxes):
                proposal.proposal_boxes = Boxes(box)
        return losses


@ROI_HEADS_REGISTRY.register()
class OpenSetRes5ROIHeads(OpenSetBoxHeads, Res5ROIHeads):
    """For C4 models; the box feature is the mean of res5 over the region."""

    replaces = "forward"

    def forward(self, images, features, proposals, targets=None):
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, targets)
        maps = self._shared_roi_transform(
            [features[f] for f in self.in_features], [p.proposal_boxes for p in proposals]
        )
        box_features = maps.mean(dim=[2, 3])
        predictions = self.box_predictor(box_features)
        if not self.training:
            detections = self._box_detections(box_features, predictions, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        losses = self._box_losses(box_features, predictions, proposals)
        if self.mask_on:
            foreground, masks = select_foreground_proposals(proposals, self.num_classes)
            losses.update(self.mask_head(maps[torch.cat(masks)], foreground))
        return [], losses


PrototypeROIHeads, EvidentialROIHeads, PrototypeEvidentialROIHeads = old_heads(OpenSetStandardROIHeads)
PrototypeRes5ROIHeads, EvidentialRes5ROIHeads, PrototypeEvidentialRes5ROIHeads = old_heads(
    OpenSetRes5ROIHeads
)
