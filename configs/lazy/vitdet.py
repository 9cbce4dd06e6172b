"""OSAL-ND with two ViTDet detectors: a plain ViT-B/16 and a simple feature pyramid, tiles enlarged to 512 px.

Weights of a MAE-pre-trained ViT go into train.init_checkpoint; Detectron2's ViTDet page names files.
"""

from functools import partial

import torch
from detectron2.config import LazyCall as L
from detectron2.data import transforms as T
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from osal_detectron2.modeling.optimizer import osal_optimizer_params

from .common.detectors import osal_nd, target_detector
from .common.run import dataloader, lr, osal, test, train  # noqa: F401

_SIZE = 512

_target = target_detector(
    L(SimpleFeaturePyramid)(
        net=L(ViT)(
            img_size=_SIZE,
            patch_size=16,
            embed_dim=768,
            depth=12,
            num_heads=12,
            drop_path_rate=0.1,
            window_size=14,
            mlp_ratio=4,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            # Blocks 2, 5, 8 and 11 look at the whole tile.
            window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
            residual_block_indexes=[],
            use_rel_pos=True,
            out_feature="last_feat",
        ),
        in_feature="${.net.out_feature}",
        out_channels=256,
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        top_block=L(LastLevelMaxPool)(),
        norm="LN",
        square_pad=_SIZE,
    ),
    fc_dims=(1024,),
)
_target.roi_heads.box_head.conv_dims = [256, 256, 256, 256]
_target.roi_heads.box_head.conv_norm = "LN"
_target.proposal_generator.head.conv_dims = [-1, -1]
_target.pixel_mean = [123.675, 116.28, 103.53]
_target.pixel_std = [58.395, 57.12, 57.375]

model = osal_nd(_target)

optimizer = L(torch.optim.AdamW)(
    params=L(osal_optimizer_params)(
        base_lr="${..lr}",
        prototype_lr_factor=25.0,
        weight_decay_norm=0.0,
        overrides={"pos_embed": {"weight_decay": 0.0}},
    ),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
)

_resize = L(T.ResizeShortestEdge)(short_edge_length=_SIZE, max_size=_SIZE)
dataloader.train_augmentations.insert(0, _resize)
dataloader.test_augmentations = [_resize]
