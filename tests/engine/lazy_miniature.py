"""The miniature of miniature.py as a LazyConfig."""

import programs

# On top of a config that we ship; each line has its twin in the YAML.
TINY = """
from detectron2.config import LazyCall as L, LazyConfig
from detectron2.layers import ShapeSpec

_base = LazyConfig.load("{root}/configs/lazy/{shipped}.py")
model, optimizer, train, dataloader = _base.model, _base.optimizer, _base.train, _base.dataloader
lr, test, osal = _base.lr, _base.test, _base.osal

for _detector in (model.target, model.auxiliary):
{backbone}
    _rpn, _heads = _detector.proposal_generator, _detector.roi_heads
    _rpn.head.in_channels = 16
    _rpn.anchor_generator.sizes = [[16], [24], [40], [64], [96]]
    _rpn.pre_nms_topk, _rpn.post_nms_topk = (50, 50), (20, 20)
    _heads.batch_size_per_image = 16
    _heads.box_pooler.output_size = 3
    for _head in _heads.get("box_heads") or [_heads.box_head]:
        _head.input_shape = ShapeSpec(channels=16, height=3, width=3)
        _head.conv_dims = [16 for _ in _head.conv_dims]
        _head.fc_dims = [16]
    for _predictor in _heads.get("box_predictors") or [_heads.box_predictor]:
        _predictor.input_shape = ShapeSpec(channels=16)
        _predictor.test_score_thresh = 0.0
        _predictor.test_topk_per_image = 20
model.target.roi_heads.box_branches.evidence.feature_dim = 16
model.auxiliary.roi_heads.box_branches.prototype.feature_dim = 16
model.auxiliary.roi_heads.box_branches.prototype.warmup_iters = 1

optimizer.lr = 0.01
lr.warmup_iters = 0
test.max_dets = 20
dataloader.batch_size, dataloader.num_workers = 2, 0
train.device, train.checkpointer.period = "cpu", 3
train.clip_gradients = dict(enabled=True)
osal.DATA.TRAIN_JSON = "{data}/annotations/random_fold1_train.json"
osal.DATA.TEST_JSON = "{data}/annotations/random_fold1_test.json"
osal.DATA.TRAIN_IMAGE_ROOT = osal.DATA.TEST_IMAGE_ROOT = "{data}/rgb"
osal.DATA.CACHE_IMAGES = True
osal.BUDGET = dict(INIT_TILES=4, QUERY_TILES=4, NUM_QUERIES=2)
osal.SCHEDULE = dict(EPOCHS=0.0, MIN_ITERS=4)
osal.SCORING = dict(BATCH_SIZE=4)
osal.EVAL = dict(GALLERY_TILES=2)
"""

# The trunk of the YAML miniature.
SHUFFLENET = """
    from detectron2.modeling.backbone import FPN
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from osal_detectron2.modeling.backbones import TorchvisionBackbone, build_torchvision_network
    _detector.backbone = L(FPN)(
        bottom_up=L(TorchvisionBackbone)(
            network=L(build_torchvision_network)(name="shufflenet_v2_x0_5"), norm="BN"
        ),
        in_features=["res2", "res3", "res4", "res5"],
        out_channels=16,
        top_block=L(LastLevelMaxPool)(),
    )
"""
VIT = """
    _vit = _detector.backbone
    _vit.out_channels, _vit.square_pad = 16, 96
    _vit.net.update(img_size=96, embed_dim=16, depth=2, num_heads=2, window_size=4, window_block_indexes=[0])
    for _augmentations in (dataloader.train_augmentations, dataloader.test_augmentations):
        _augmentations[0].short_edge_length = _augmentations[0].max_size = 96
"""


def train(config, *overrides, flags=()):
    """`osal lazy` in this process; returns its exit code."""
    return programs.osal("lazy", *(["--config-file", config] if config else []), *flags, *overrides)
