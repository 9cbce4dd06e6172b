"""The two detectors of OSAL-ND around any backbone with levels of the given strides."""

from copy import deepcopy

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead

from osal_detectron2.modeling.evidence import EvidentialBranch
from osal_detectron2.modeling.fast_rcnn import OpenSetFastRCNNOutputLayers
from osal_detectron2.modeling.meta_arch import OSALRCNN
from osal_detectron2.modeling.prototypes import PrototypeBranch
from osal_detectron2.modeling.roi_heads import OpenSetStandardROIHeads


def target_detector(
    backbone, *, num_classes=3, num_unknown=0, channels=256, fc_dims=(1024, 1024), resolution=7
):
    """A Faster R-CNN of the known classes with an evidential head, on levels p2 to p6 of strides 4 to 64.

    num_classes: known classes. num_unknown: hidden ones for unknown nuclei, 1 or as many as there are unknown classes.
    """
    num_classes += num_unknown  # of the classifier
    hidden = {"num_unknown": num_unknown} if num_unknown else {}
    return L(GeneralizedRCNN)(
        backbone=backbone,
        proposal_generator=L(RPN)(
            in_features=["p2", "p3", "p4", "p5", "p6"],
            head=L(StandardRPNHead)(in_channels=channels, num_anchors=3),
            anchor_generator=L(DefaultAnchorGenerator)(
                # Nuclei are 10 to 60 px.
                sizes=[[16], [32], [64], [128], [256]],
                aspect_ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32, 64],
                offset=0.0,
            ),
            anchor_matcher=L(Matcher)(
                thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
            ),
            box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_topk=(2000, 1000),
            post_nms_topk=(1000, 1000),
            nms_thresh=0.7,
        ),
        roi_heads=L(OpenSetStandardROIHeads)(
            num_classes=num_classes,
            batch_size_per_image=512,
            positive_fraction=0.25,
            proposal_matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
            box_in_features=["p2", "p3", "p4", "p5"],
            box_pooler=L(ROIPooler)(
                output_size=resolution,
                scales=(1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32),
                sampling_ratio=0,
                pooler_type="ROIAlignV2",
            ),
            box_head=L(FastRCNNConvFCHead)(
                input_shape=ShapeSpec(channels=channels, height=resolution, width=resolution),
                conv_dims=[],
                fc_dims=list(fc_dims),
            ),
            box_predictor=L(OpenSetFastRCNNOutputLayers)(
                input_shape=ShapeSpec(channels=fc_dims[-1]),
                box2box_transform=L(Box2BoxTransform)(weights=(10.0, 10.0, 5.0, 5.0)),
                num_classes="${..num_classes}",
                test_score_thresh=0.05,
                test_topk_per_image=300,
                **hidden,
            ),
            box_branches=L("builtins.dict")(
                evidence=L(EvidentialBranch)(
                    feature_dim=fc_dims[-1], num_classes=num_classes, mode="posthoc"
                ),
            ),
        ),
        pixel_mean=[180.0, 130.0, 190.0],
        pixel_std=[50.0, 50.0, 50.0],
        input_format="RGB",
    )


def auxiliary_detector(target):
    """The same detector, of two classes known and unknown, with prototypes."""
    auxiliary = deepcopy(target)
    heads = auxiliary.roi_heads
    heads.num_classes = 2
    heads.box_predictor.pop("num_unknown", None)
    heads.box_branches = L("builtins.dict")(
        prototype=L(PrototypeBranch)(feature_dim=heads.box_predictor.input_shape.channels, margin=10.0)
    )
    heads.box_predictor.test_score_thresh = 0.3
    heads.box_predictor.nms = "class_agnostic"
    return auxiliary


def osal_nd(target, auxiliary=None, *, num_unknown=0):
    """Both detectors as one model; the auxiliary by default as above. num_unknown: that of the target."""
    return L(OSALRCNN)(
        target=target,
        auxiliary=auxiliary_detector(target) if auxiliary is None else auxiliary,
        num_known=target.roi_heads.num_classes - num_unknown,
        unknown_policy="classes" if num_unknown > 1 else "class" if num_unknown else "drop",
        auxiliary_classes="known_unknown",
        auxiliary_backbone="own",
    )
