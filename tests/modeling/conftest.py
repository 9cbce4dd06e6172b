"""Tiny models and inputs: 128-pixel tiles, 16 channels, milliseconds a step on one CPU core."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.structures import Boxes, Instances
from torch import nn

from osal_detectron2 import add_osal_config

if "build_toy_backbone" not in BACKBONE_REGISTRY:

    @BACKBONE_REGISTRY.register()
    class build_toy_backbone(Backbone):
        """Two levels, strides 4 and 8, without normalisation."""

        def __init__(self, cfg, input_shape):
            super().__init__()
            self.p2 = nn.Conv2d(3, 16, 5, stride=4, padding=2)
            self.p3 = nn.Conv2d(16, 16, 3, stride=2, padding=1)

        def forward(self, x):
            p2 = self.p2(x).relu()
            return {"p2": p2, "p3": self.p3(p2).relu()}

        def output_shape(self):
            return {"p2": ShapeSpec(channels=16, stride=4), "p3": ShapeSpec(channels=16, stride=8)}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def toy_cfg():
    """OSALRCNN with K = 3 on the toy backbone; tests change what they need."""
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "OSALRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_toy_backbone"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 64
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.OSAL.AUXILIARY.SCORE_THRESH = 0.0
    cfg.SOLVER.MAX_ITER = 8
    return cfg


@pytest.fixture
def c4_cfg(toy_cfg):
    """The same as a very thin R50-C4, whose box feature is the mean of res5."""
    toy_cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    toy_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    toy_cfg.MODEL.RESNETS.NORM = "LN"  # frozen BatchNorm lets the activations of random weights explode
    toy_cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    toy_cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    toy_cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    toy_cfg.MODEL.RPN.IN_FEATURES = toy_cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    toy_cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16, 32]]
    toy_cfg.MODEL.ROI_HEADS.NAME = "OpenSetRes5ROIHeads"
    toy_cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "OpenSetRes5ROIHeads"
    return toy_cfg


def make_input(*classes, seed=0, size=128):
    """A model input with one nucleus of 24 pixels of each of the given classes (0..K-1, K = unknown)."""
    generator = torch.Generator().manual_seed(seed)
    instances = Instances((size, size))
    corners = torch.rand(len(classes), 2, generator=generator) * (size - 25)
    instances.gt_boxes = Boxes(torch.cat([corners, corners + 24], dim=1))
    instances.gt_classes = torch.tensor(classes, dtype=torch.long)
    image = torch.rand(3, size, size, generator=generator) * 255
    return {"image": image, "instances": instances, "height": 2 * size, "width": 2 * size}


@pytest.fixture(name="make_input")
def make_input_fixture():
    return make_input
