"""Any timm network as a backbone: an FPN over a hierarchical one, a simple feature pyramid over a plain ViT.

timm is imported only when a config asks for it.
"""

import ast
import logging

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import SimpleFeaturePyramid
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn
from torch.nn import functional as F

from osal_detectron2.core.errors import ConfigError, check_choice

from .backbones import STRIDES, build_fpn
from .weights_file import check_fit, load_fitting, read_weights

NORMS = ("BN", "frozen")
VIT_STRIDE = 16
# What timm calls the layers above the maps. Its own pruning leaves a norm there in some versions.
CLASSIFIERS = ("head", "head_dist", "fc", "classifier")
PYRAMID_SCALES = (4.0, 2.0, 1.0, 0.5)  # of a map of stride 16: strides 4, 8, 16, 32
# How timm's families are told to take images of any size; one that knows neither word takes them anyway.
ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmBackbone(Backbone):
    """Maps of a timm network: "res2" to "res5", strides 4 to 32; of a plain ViT "last", stride 16.

    A plain ViT (every block of one stride) with another patch size gets the image resized by patch / 16, so that one
    patch covers 16 x 16 pixels of the tile. Its map is that of the last block after the final norm.
    """

    @configurable
    def __init__(
        self,
        *,
        network: nn.Module,
        weights: str = "",
        freeze: bool = False,
        norm: str = "BN",
        checkpointing: bool = False,
    ):
        """
        Args:
            network: a timm network for images of any size; its layers above the maps are removed.
            weights: local file, see `weights_file.read_weights`; "" leaves the weights as they are.
            freeze: no gradients, no dropout, fixed statistics.
            norm: "BN" or "frozen" BatchNorm.
            checkpointing: compute activations again in the backward pass.

        Raises:
            ConfigError: the network has no maps of the strides needed or only takes one image size, or `weights` is
                the file of another one.
        """
        super().__init__()
        check_choice("MODEL.TIMM.NORM", norm, NORMS)
        kind = type(network).__name__
        if not hasattr(network, "prune_intermediate_layers") or not hasattr(network, "forward_intermediates"):
            raise ConfigError(
                f"MODEL.TIMM.NAME: timm gives no feature maps of {kind}; choose another network"
            )
        strides = [info["reduction"] for info in network.feature_info]
        self.plain = len(set(strides)) == 1
        if self.plain:
            indices, self._resize = [len(strides) - 1], strides[0] / VIT_STRIDE
            shape = ShapeSpec(channels=network.feature_info[-1]["num_chs"], stride=VIT_STRIDE)
            self._shapes = {"last": shape}
        else:
            lacking = [s for s in STRIDES if s not in strides]
            if lacking:
                raise ConfigError(
                    f"MODEL.TIMM.NAME: {kind} has maps of strides {strides}, not of {lacking}; "
                    "choose a network with strides 4, 8, 16 and 32, or a plain ViT"
                )
            indices = [len(strides) - 1 - strides[::-1].index(s) for s in STRIDES]
            self._resize = 1.0
            self._shapes = {
                f"res{i}": ShapeSpec(channels=network.feature_info[j]["num_chs"], stride=s)
                for i, j, s in zip(range(2, 6), indices, STRIDES)
            }
        fit = load_fitting(network, read_weights(weights, key="MODEL.TIMM.WEIGHTS")) if weights else None
        self._indices = network.prune_intermediate_layers(indices, prune_norm=not self.plain)
        for name in CLASSIFIERS:
            if hasattr(network, name):
                setattr(network, name, nn.Identity())
        if fit is not None:
            check_fit(network, fit, path=weights, key="MODEL.TIMM")
        if norm == "frozen":
            network = _timm().layers.freeze_batch_norm_2d(network)
        if checkpointing:
            network.set_grad_checkpointing(True)
        self.network = network
        self.frozen = freeze
        self._try_out(kind)
        if freeze:
            network.eval().requires_grad_(False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.TIMM
        if (node.FREEZE or node.NORM == "frozen") and not (node.WEIGHTS or cfg.MODEL.WEIGHTS):
            logging.getLogger(__name__).warning(
                "MODEL.TIMM.FREEZE or NORM 'frozen' without weights: random weights stay random. Give a file in "
                "MODEL.TIMM.WEIGHTS, or a detector in MODEL.WEIGHTS."
            )
        return {
            "network": build_timm_network(node.NAME, kwargs=parse_kwargs(node.KWARGS)),
            "weights": node.WEIGHTS,
            "freeze": node.FREEZE,
            "norm": node.NORM,
            "checkpointing": node.CHECKPOINTING,
        }

    def _try_out(self, kind: str) -> None:
        """A blank tile of a size that no network is made for must give the maps that were promised."""
        modes = {module: module.training for module in self.modules()}
        try:
            with torch.no_grad():
                maps = self.eval()(torch.zeros(1, 3, 64, 96))
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(
                f"MODEL.TIMM.NAME: {kind} does not take tiles of any size ({error}); choose another network, or name "
                "the argument that allows it in MODEL.TIMM.KWARGS"
            ) from error
        for name, s in self._shapes.items():
            found, wanted = tuple(maps[name].shape[1:]), (s.channels, 64 // s.stride, 96 // s.stride)
            if found != wanted:
                raise ConfigError(f"MODEL.TIMM.NAME: {kind} gives a map of shape {found}, not {wanted}")
        for module, mode in modes.items():
            module.training = mode

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """`x` (N, 3, H, W), H and W divisible by `size_divisibility`; name -> (N, C, H / stride, W / stride)."""
        if self._resize != 1.0:
            size = [round(side * self._resize) for side in x.shape[-2:]]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.network.forward_intermediates(
                x, indices=self._indices, norm=self.plain, output_fmt="NCHW", intermediates_only=True
            )
        return dict(zip(self._shapes, maps))

    @property
    def size_divisibility(self) -> int:
        return VIT_STRIDE if self.plain else STRIDES[-1]

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)


class TimmPyramid(SimpleFeaturePyramid):
    """Detectron2's simple feature pyramid, levels p2 to p6, over the one map of a plain ViT.

    Detectron2's own class misspells the key of its padding constraint in some versions, and then tiles are not padded.
    """

    @property
    def bottom_up(self) -> Backbone:
        """The network below the pyramid, by the name that it has in an FPN."""
        return self.net

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"size_divisibility": STRIDES[-1]}


def _timm():
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"MODEL.BACKBONE.NAME 'build_timm_backbone' needs timm, which does not import ({error}): pip install timm"
        ) from error
    return timm


def parse_kwargs(words: list[str]) -> dict:
    """ "key=value" words as keyword arguments: Python literals, names of layers, or strings.

    >>> parse_kwargs(["depth=2", "act_layer=SiLU", "global_pool=avg"])
    {'depth': 2, 'act_layer': <class 'torch.nn.modules.activation.SiLU'>, 'global_pool': 'avg'}

    Raises:
        ConfigError: a word without "=", or a layer that neither timm.layers nor torch.nn has.
    """
    kwargs = {}
    for word in words:
        key, equals, text = str(word).partition("=")
        if not (equals and key.isidentifier()):
            raise ConfigError(f'MODEL.TIMM.KWARGS has {word!r}: write "key=value", e.g. "init_values=1e-5"')
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
            if key.endswith("_layer"):
                value = getattr(_timm().layers, text, None) or getattr(nn, text, None)
                if value is None:
                    raise ConfigError(
                        f"MODEL.TIMM.KWARGS has {word!r}: neither timm.layers nor torch.nn has {text}"
                    ) from None
        kwargs[key] = value
    return kwargs


def build_timm_network(name: str, *, kwargs: dict | None = None) -> nn.Module:
    """The network `name` of timm with random weights, without classifier, for images of any size where it can.

    Raises:
        ConfigError: timm is not there, does not have the network, or the network not one of `kwargs`.
    """
    timm = _timm()
    for any_size in ANY_SIZE:
        try:
            return timm.create_model(
                name, pretrained=False, **{"num_classes": 0, **any_size, **(kwargs or {})}
            )
        except TypeError as error:  # an argument that the network does not have: ours, or one of the user's
            reason = error
        except (RuntimeError, ValueError, AssertionError) as error:
            if timm.is_model(name):
                reason = error
                break
            raise ConfigError(
                f"MODEL.TIMM.NAME is '{name}', which timm {timm.__version__} does not have; "
                "timm.list_models('*vit*') names networks"
            ) from error
    raise ConfigError(f"MODEL.TIMM.KWARGS do not suit {name}: {reason}") from reason


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> Backbone:
    """Levels p2 to p6 over the timm network MODEL.TIMM.NAME.

    Uses MODEL.FPN.{OUT_CHANNELS,NORM}; over a hierarchical network also what `build_fpn` uses. The norm of a simple
    feature pyramid is "LN" unless MODEL.FPN.NORM names another.
    """
    bottom_up = TimmBackbone(cfg)
    if not bottom_up.plain:
        return build_fpn(cfg, bottom_up)
    return TimmPyramid(
        net=bottom_up,
        in_feature="last",
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        scale_factors=PYRAMID_SCALES,
        top_block=LastLevelMaxPool(),
        norm=cfg.MODEL.FPN.NORM or "LN",
    )
