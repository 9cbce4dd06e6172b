"""Any torchvision classification network as an FPN backbone."""

import logging
import math

import torch
import torchvision
from detectron2.config import configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import nn

from osal_detectron2.core.errors import ConfigError, check_choice

from .weights_file import lacking_weights, load_fitting, read_weights

NORMS = ("frozen", "BN", "GN")
STRIDES = (4, 8, 16, 32)


def trunk_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a classification network applies one after another, up to its pooling.

    Containers are opened; anything else is one block. This is how torchvision's ResNet, RegNet, MobileNet,
    EfficientNet, MNASNet, ShuffleNet, DenseNet, VGG, ConvNeXt and Swin families are laid out.
    """
    blocks = []

    def walk(module: nn.Module) -> bool:
        for child in module.children():
            if isinstance(child, nn.AdaptiveAvgPool2d | nn.Linear | nn.Dropout):
                return False
            if isinstance(child, nn.Sequential):
                if not walk(child):
                    return False
            else:
                blocks.append(child)
        return True

    walk(network)
    return blocks


def split_by_stride(blocks: list[nn.Module]) -> list[tuple[list[nn.Module], ShapeSpec, bool]]:
    """Group consecutive blocks by the stride of their output, found with a blank image.

    Returns:
        For each power of two: the blocks, the output's channels and stride, and whether it has channels last.
    """
    height, width = 128, 160
    x = torch.zeros(1, 3, height, width)
    stages: list[tuple[list[nn.Module], ShapeSpec, bool]] = []
    modes = [block.training for block in blocks]
    with torch.no_grad():
        for block in blocks:
            x = block.eval()(x)
            channels_last = x.shape[1] * width == x.shape[2] * height
            h, w, c = (x.shape[i] for i in ((1, 2, 3) if channels_last else (2, 3, 1)))
            stride = height // h
            if stride * h != height or stride * w != width or math.log2(stride) % 1:
                raise ValueError(f"an output of {h}x{w} for an input of {height}x{width}")
            if not stages or stages[-1][1].stride != stride:
                stages.append(([], None, False))
            stages[-1] = (stages[-1][0] + [block], ShapeSpec(channels=c, stride=stride), channels_last)
    for block, mode in zip(blocks, modes):
        block.train(mode)
    return stages


class TorchvisionBackbone(Backbone):
    """The feature maps of strides 4, 8, 16 and 32 of a classification network, as "res2" to "res5"."""

    @configurable
    def __init__(self, *, network: nn.Module, norm: str = "BN", freeze_at: int = 0):
        """
        Args:
            network: a torchvision classification network (its classifier is not used).
            norm: "BN" as the network comes, "frozen" BatchNorm, or "GN" in place of BatchNorm.
            freeze_at: number of stages that are not trained, as in Detectron2's ResNet: 1 everything before
                stride 4, 2 also "res2", and so on. Their BatchNorm is frozen too.

        Raises:
            ConfigError: the network has no feature map at one of the strides, or `norm` is unknown.
        """
        super().__init__()
        check_choice("MODEL.TORCHVISION.NORM", norm, NORMS)
        kind = type(network).__name__
        try:
            parts = split_by_stride(trunk_blocks(network))
        except (ValueError, RuntimeError, IndexError, TypeError, AssertionError) as error:
            raise ConfigError(
                f"MODEL.TORCHVISION.NAME: {kind} is no sequence of blocks with strides 4, 8, 16, 32 ({error})"
            ) from error
        found = [shape.stride for _, shape, _ in parts if shape.stride >= STRIDES[0]]
        if tuple(found) != STRIDES:
            raise ConfigError(
                f"MODEL.TORCHVISION.NAME: {kind} has strides {found}, FPN needs {list(STRIDES)}"
            )
        self._shapes = {f"res{int(math.log2(s.stride))}": s for _, s, _ in parts if s.stride >= STRIDES[0]}
        self._channels_last = {f"res{int(math.log2(s.stride))}": last for _, s, last in parts}
        self.stem = nn.Sequential(*(b for blocks, s, _ in parts if s.stride < STRIDES[0] for b in blocks))
        for blocks, shape, _ in parts:
            if shape.stride >= STRIDES[0]:
                self.add_module(f"res{int(math.log2(shape.stride))}", nn.Sequential(*blocks))
        if norm == "frozen":
            FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        elif norm == "GN":
            _group_norm_in_place_of_batch_norm(self)
        self.freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.TORCHVISION
        pretrained = bool(node.WEIGHTS or cfg.MODEL.WEIGHTS)
        if node.NORM == "frozen" and not pretrained:
            logging.getLogger(__name__).warning(
                "MODEL.TORCHVISION.NORM 'frozen' without MODEL.TORCHVISION.WEIGHTS: a frozen BatchNorm of "
                "random weights normalises nothing. Give weights here or in MODEL.WEIGHTS, or choose 'GN' or "
                "'BN'."
            )
        return {
            "network": build_torchvision_network(node.NAME, weights=node.WEIGHTS),
            "norm": node.NORM,
            # Detectron2 freezes two stages by default: of random weights that would only cripple them.
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT if pretrained else 0,
        }

    def freeze(self, freeze_at: int) -> None:
        """Stop training the first `freeze_at` stages, the stem being the first."""
        for stage in (self.stem, *(getattr(self, name) for name in self._shapes))[: max(freeze_at, 0)]:
            for parameter in stage.parameters():
                parameter.requires_grad = False
            FrozenBatchNorm2d.convert_frozen_batchnorm(stage)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """`x` (N, 3, H, W), H and W divisible by 32; returns name -> (N, C, H / stride, W / stride)."""
        x = self.stem(x)
        outputs = {}
        for name in self._shapes:
            x = getattr(self, name)(x)
            outputs[name] = x.permute(0, 3, 1, 2) if self._channels_last[name] else x
        return outputs

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)


def build_torchvision_network(name: str, *, weights: str = "") -> nn.Module:
    """The network `name` of torchvision.models.

    Args:
        name: constructor, e.g. "resnet18".
        weights: file with the state dict of the whole network (`weights_file.read_weights`), or "" for random
            weights. The classifier may have any number of classes, since it is not used.

    Raises:
        ConfigError: no such network, no such file, or a file of another network.
    """
    try:
        network = torchvision.models.get_model(name, weights=None)
    except ValueError as error:
        raise ConfigError(
            f"MODEL.TORCHVISION.NAME is '{name}', which torchvision {torchvision.__version__} does not have; "
            "torchvision.models.list_models() names them"
        ) from error
    if not weights:
        return network
    fit = load_fitting(network, read_weights(weights, key="MODEL.TORCHVISION.WEIGHTS"))
    blocks = {id(block) for block in trunk_blocks(network)}
    trunk = tuple(f"{prefix}." for prefix, module in network.named_modules() if id(module) in blocks)
    if lacking := [k for k in lacking_weights(network, fit) if k.startswith(trunk)]:
        raise ConfigError(
            f"MODEL.TORCHVISION.WEIGHTS: '{weights}' does not fit {name}: {len(lacking)} weights are missing "
            f"or of another shape, e.g. '{lacking[0]}'"
        )
    return network


def _group_norm_in_place_of_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(math.gcd(32, child.num_features), child.num_features))
        else:
            _group_norm_in_place_of_batch_norm(child)


def build_fpn(cfg, bottom_up: Backbone) -> FPN:
    """FPN with levels p2 to p6 over `bottom_up`, whose maps are "res2" to "res5".

    Uses MODEL.FPN.{OUT_CHANNELS,NORM,FUSE_TYPE} and, if not empty, MODEL.FPN.IN_FEATURES.
    """
    return FPN(
        bottom_up=bottom_up,
        in_features=list(cfg.MODEL.FPN.IN_FEATURES) or list(bottom_up.output_shape()),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_torchvision_fpn_backbone(cfg, input_shape: ShapeSpec) -> Backbone:
    """`build_fpn` over the torchvision network MODEL.TORCHVISION.NAME."""
    return build_fpn(cfg, TorchvisionBackbone(cfg))
