"""OSAL-ND with two Faster R-CNN of ResNet-50 and FPN, as configs/Base-OSAL-R50-FPN.yaml."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from .common.detectors import osal_nd, target_detector
from .common.run import dataloader, lr, optimizer, osal, test, train  # noqa: F401

model = osal_nd(
    target_detector(
        L(FPN)(
            bottom_up=L(ResNet)(
                stem=L(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
                stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=False, norm="BN"),
                out_features=["res2", "res3", "res4", "res5"],
            ),
            in_features="${.bottom_up.out_features}",
            out_channels=256,
            top_block=L(LastLevelMaxPool)(),
        )
    )
)
