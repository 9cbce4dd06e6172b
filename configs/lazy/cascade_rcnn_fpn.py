"""OSAL-ND whose target is a Cascade R-CNN of three stages; the auxiliary has one, since it only counts."""

from copy import deepcopy

from detectron2.config import LazyCall as L
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher

from osal_detectron2.modeling.cascade import OpenSetCascadeROIHeads

from .common.detectors import auxiliary_detector, osal_nd
from .common.run import dataloader, lr, optimizer, osal, test, train  # noqa: F401
from .faster_rcnn_fpn import model as _faster

_target = _faster.target
_auxiliary = auxiliary_detector(_target)

_heads = _target.roi_heads
_stage = {name: _heads.pop(name) for name in ("box_head", "box_predictor", "proposal_matcher")}
_heads._target_ = OpenSetCascadeROIHeads
_heads.box_heads = [deepcopy(_stage["box_head"]) for _ in range(3)]
_heads.box_predictors = []
for _centre, _size in ((10.0, 5.0), (20.0, 10.0), (30.0, 15.0)):
    _predictor = deepcopy(_stage["box_predictor"])
    _predictor.num_classes = "${...num_classes}"
    _predictor.cls_agnostic_bbox_reg = True
    _predictor.box2box_transform = L(Box2BoxTransform)(weights=(_centre, _centre, _size, _size))
    _heads.box_predictors.append(_predictor)
_heads.proposal_matchers = [
    L(Matcher)(thresholds=[_iou], labels=[0, 1], allow_low_quality_matches=False) for _iou in (0.5, 0.6, 0.7)
]

model = osal_nd(_target, _auxiliary)
