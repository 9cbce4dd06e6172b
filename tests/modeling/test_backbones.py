import logging
import os
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from osal_detectron2 import add_osal_config
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.backbones import TorchvisionBackbone, build_torchvision_network

SHARED = Path(os.environ.get("OSAL_SHARED", Path(__file__).parents[3] / "shared"))


def make_cfg(name="resnet18", weights="", norm="BN"):
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_torchvision_fpn_backbone"
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.TORCHVISION.NAME = name
    cfg.MODEL.TORCHVISION.WEIGHTS = str(weights)
    cfg.MODEL.TORCHVISION.NORM = norm
    return cfg


@pytest.mark.parametrize(
    "name, channels",
    [
        ("mobilenet_v2", (24, 32, 96, 1280)),
        ("resnet18", (64, 128, 256, 512)),
        ("efficientnet_b0", (24, 40, 112, 1280)),
        ("regnet_y_400mf", (48, 104, 208, 440)),
        ("convnext_tiny", (96, 192, 384, 768)),
        ("swin_t", (96, 192, 384, 768)),
    ],
)
def test_any_torchvision_network_becomes_a_pyramid(name, channels):
    backbone = build_backbone(make_cfg(name)).eval()
    assert tuple(s.channels for s in backbone.bottom_up.output_shape().values()) == channels
    with torch.no_grad():
        levels = backbone(torch.zeros(2, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in levels.items()} == {
        f"p{i}": (2, 16, -(-64 // 2**i), -(-96 // 2**i)) for i in range(2, 7)
    }
    assert {k: s.stride for k, s in backbone.output_shape().items()} == {f"p{i}": 2**i for i in range(2, 7)}


def test_feature_maps_are_those_of_the_network():
    network = torchvision.models.resnet18(weights=None).eval()
    names = {f"layer{i}": f"res{i + 1}" for i in range(1, 5)}
    reference = create_feature_extractor(network, names)
    ours = TorchvisionBackbone(network=network).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = reference(x), ours(x)
    assert list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in expected)


def test_network_keeps_its_training_mode():
    assert all(m.training for m in TorchvisionBackbone(network=torchvision.models.resnet18()).modules())


@pytest.mark.parametrize(
    "norm, kind", [("BN", nn.BatchNorm2d), ("GN", nn.GroupNorm), ("frozen", FrozenBatchNorm2d)]
)
def test_norm_layers(tmp_path, norm, kind):
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights.pth")
    cfg = make_cfg("mobilenet_v2", tmp_path / "weights.pth", norm)
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    backbone = build_backbone(cfg)
    kinds = {
        type(m)
        for m in backbone.modules()
        if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | FrozenBatchNorm2d)
    }
    assert kinds == {kind}
    sum(v.sum() for v in backbone.train()(torch.rand(2, 3, 64, 64)).values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize("freeze_at, frozen", [(0, set()), (1, {"stem"}), (3, {"stem", "res2", "res3"})])
def test_first_stages_are_frozen(freeze_at, frozen):
    backbone = TorchvisionBackbone(network=torchvision.models.resnet18(), freeze_at=freeze_at)
    for name, stage in backbone.named_children():
        still = {p.requires_grad for p in stage.parameters()}
        assert still == ({False} if name in frozen and still else {True} if still else set())
        assert any(isinstance(m, nn.BatchNorm2d) for m in stage.modules()) == (name not in frozen)


def test_random_weights_are_not_frozen(caplog):
    assert all(p.requires_grad for p in build_backbone(make_cfg()).parameters())
    with caplog.at_level(logging.WARNING):
        build_backbone(make_cfg(norm="frozen"))
    assert "MODEL.TORCHVISION.NORM 'frozen' without" in caplog.text


def test_weights_are_loaded_whatever_the_classifier(tmp_path):
    source = torchvision.models.resnet18(num_classes=5)
    torch.save(source.state_dict(), tmp_path / "pathology.pth")
    backbone = build_backbone(make_cfg(weights=tmp_path / "pathology.pth"))
    assert torch.equal(backbone.bottom_up.stem[0].weight, source.conv1.weight)
    assert torch.equal(backbone.bottom_up.res5[1].conv2.weight, source.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("resnet18", None, "there is no file"),
        ("resnet18", b"not a checkpoint", "no file of weights alone"),
        ("resnet18", {"features.0.weight": torch.zeros(1)}, "does not fit resnet18.*conv1.weight"),
        ("resnet18", ["a list"], "holds no state dict"),
        ("resnet19", None, "'resnet19'.*list_models"),
        ("vit_b_16", None, "VisionTransformer"),
        ("alexnet", None, "AlexNet"),
    ],
)
def test_wrong_networks_and_weights_are_named(tmp_path, name, content, says):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=says):
        build_backbone(make_cfg(name, path if content is not None or name == "resnet18" else ""))


def test_unknown_norm_is_named():
    with pytest.raises(ConfigError, match="MODEL.TORCHVISION.NORM.*frozen, BN, GN"):
        build_backbone(make_cfg(norm="IN"))


def test_imagenet_mobilenet_with_frozen_norm_has_sane_activations():
    weights = SHARED / "weights" / "mobilenet_v2_imagenet.pth"
    if not weights.is_file():
        pytest.skip("mobilenet_v2_imagenet.pth is not here (set OSAL_SHARED)")
    cfg = make_cfg("mobilenet_v2", weights, "frozen")
    backbone = build_backbone(cfg).train()
    with torch.no_grad():
        maps = backbone.bottom_up(torch.rand(1, 3, 64, 64) * 2 - 1)
        network = build_torchvision_network("mobilenet_v2", weights=str(weights)).eval()
        expected = network.features(torch.zeros(1, 3, 64, 64))
        assert torch.allclose(backbone.bottom_up(torch.zeros(1, 3, 64, 64))["res5"], expected, atol=1e-4)
    assert all(0.01 < m.abs().mean() < 10 for m in maps.values())
