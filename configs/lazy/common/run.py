"""All but the model: data, budget, optimizer, learning rate and machine. Every key is in docs/lazy_config.md."""

import torch
from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from osal_detectron2.modeling.optimizer import osal_optimizer_params

train = dict(
    output_dir="output/lazy",
    init_checkpoint="",
    device="cuda",
    amp=dict(enabled=False),
    checkpointer=dict(period=500),
)

dataloader = dict(
    batch_size=4,
    num_workers=2,
    image_format="RGB",
    # Nuclei have no orientation.
    train_augmentations=[
        L(T.RandomFlip)(horizontal=True, vertical=False),
        L(T.RandomFlip)(horizontal=False, vertical=True),
    ],
    test_augmentations=[],
)

# The prototypes are in a group of their own, at prototype_lr_factor * lr.
optimizer = L(torch.optim.SGD)(
    params=L(osal_optimizer_params)(base_lr="${..lr}", prototype_lr_factor=25.0, weight_decay_norm=0.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
)

lr = dict(gamma=0.1, warmup_iters=200, warmup_factor=0.001)

test = dict(max_dets=300)

osal = dict(
    STRATEGY="osal_nd",
    DATA=dict(
        TRAIN_JSON="datasets/synthetic/annotations/random_fold1_train.json",
        TRAIN_IMAGE_ROOT="datasets/synthetic/rgb",
        TEST_JSON="datasets/synthetic/annotations/random_fold1_test.json",
        TEST_IMAGE_ROOT="datasets/synthetic/rgb",
        KNOWN_CLASSES=["tumor", "lymphocyte", "stromal"],
    ),
)
