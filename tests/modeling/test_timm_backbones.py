"""timm networks as backbones, with weights from local files."""

import sys

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.utils.events import EventStorage
from safetensors.torch import save_file
from torch import nn

from osal_detectron2 import add_osal_config
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.features import image_features
from osal_detectron2.modeling.timm_backbones import TimmBackbone, build_timm_network

VIT = "vit_tiny_patch16_224"
TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def words(**kwargs):
    return [f"{key}={value}" for key, value in kwargs.items()]


def make_cfg(name=VIT, weights="", **kwargs):
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.TIMM.NAME = name
    cfg.MODEL.TIMM.WEIGHTS = str(weights)
    cfg.MODEL.TIMM.KWARGS = words(**({**TINY, **kwargs} if name == VIT else kwargs))
    return cfg


def detector_cfg(cfg):
    """A tiny Faster R-CNN with Evidential heads on the backbone of `cfg`."""
    levels = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.RPN.IN_FEATURES = [*levels, "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = levels
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.SOLVER.MAX_ITER = 2
    return cfg


def network(name=VIT, **kwargs):
    """The timm network by itself, with a classifier, in random weights."""
    return timm.create_model(name, num_classes=7, **({**TINY, **kwargs} if name == VIT else kwargs)).eval()


# ---- shapes and values ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name, kwargs",
    [
        (VIT, {}),
        (VIT, {"patch_size": 14, "reg_tokens": 4}),
        (VIT, {"patch_size": 8, "class_token": False, "global_pool": "avg"}),
        ("test_resnet", {}),
        ("test_convnext", {}),
        (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
        ),
    ],
)
def test_any_timm_network_becomes_a_pyramid_for_tiles_of_any_size(name, kwargs):
    backbone = build_backbone(make_cfg(name, **kwargs))
    assert backbone.size_divisibility == 32
    levels = backbone(torch.rand(2, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in levels.items()} == {
        f"p{i}": (2, 16, -(-64 // 2**i), -(-96 // 2**i)) for i in range(2, 7)
    }
    assert {k: s.stride for k, s in backbone.output_shape().items()} == {f"p{i}": 2**i for i in range(2, 7)}
    sum(v.sum() for v in levels.values()).backward()
    # What takes no part in the loss would stop distributed training.
    assert [k for k, p in backbone.named_parameters() if p.grad is None] == []


def test_map_of_a_vit_is_its_normed_patch_tokens():
    plain = timm.create_model(VIT, num_classes=7, dynamic_img_size=True, reg_tokens=3, **TINY).eval()
    x = torch.rand(1, 3, 48, 80)
    with torch.no_grad():
        tokens = plain.forward_features(x)[:, 4:]  # behind the class token and three registers
        found = TimmBackbone(network=plain).eval()(x)["last"]
    assert torch.allclose(found, tokens.reshape(1, 3, 5, 24).permute(0, 3, 1, 2), atol=1e-6)


def test_maps_of_a_conv_net_are_those_of_features_only():
    torch.manual_seed(0)
    plain = network("test_resnet")
    reference = timm.create_model("test_resnet", features_only=True).eval()
    reference.load_state_dict(
        {k: v for k, v in plain.state_dict().items() if k in reference.state_dict()}, strict=True
    )
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = TimmBackbone(network=plain).eval()(x)
        expected = reference(x)[1:]  # the first has stride 2
    assert list(found) == ["res2", "res3", "res4", "res5"]
    assert all(torch.equal(a, b) for a, b in zip(found.values(), expected))


def test_a_patch_of_14_covers_16_pixels_of_the_tile():
    plain = timm.create_model(VIT, num_classes=0, dynamic_img_size=True, patch_size=14, **TINY).eval()
    backbone = TimmBackbone(network=plain).eval()
    seen = []
    plain.patch_embed.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 96, 64))["last"].shape == (1, 24, 6, 4)
    assert seen == [(1, 3, 84, 56)]


def test_tiles_are_padded_to_whole_patches():
    model = build_model(detector_cfg(make_cfg(patch_size=14)))
    inputs = [{"image": torch.rand(3, 70, 83)}, {"image": torch.rand(3, 61, 50)}]
    assert model.preprocess_image(inputs).tensor.shape == (2, 3, 96, 96)


# ---- weights ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"student": {}, "teacher": {f"module.backbone.{k}": v for k, v in s.items()}},
        "safetensors",
    ],
    ids=["plain", "state_dict", "model", "teacher", "safetensors"],
)
@pytest.mark.parametrize("name", [VIT, "test_convnext"])
def test_weights_come_from_a_local_file_however_wrapped(tmp_path, name, wrap):
    source = network(name)
    if wrap == "safetensors":
        path = tmp_path / "w.safetensors"
        save_file(source.state_dict(), path)
    else:
        path = tmp_path / "w.pth"
        torch.save(wrap(source.state_dict()), path)
    found = build_backbone(make_cfg(name, path)).bottom_up.network.state_dict()
    assert found and all(torch.equal(v, source.state_dict()[k]) for k, v in found.items())


def test_position_embeddings_of_another_grid_are_resampled(tmp_path):
    source = network(img_size=64)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    found = build_backbone(make_cfg(weights=tmp_path / "w.pth")).bottom_up.network
    assert found.pos_embed.shape == (1, 1 + 14 * 14, 24)
    assert torch.equal(found.pos_embed[:, 0], source.pos_embed[:, 0])
    assert torch.equal(found.blocks[1].mlp.fc2.weight, source.blocks[1].mlp.fc2.weight)


@pytest.mark.parametrize(
    "source, kwargs, says",
    [
        (None, {}, "there is no file"),
        (b"not weights", {}, "no file of weights alone"),
        ({"epoch": 3}, {}, "holds no state dict"),
        (
            {"embed_dim": 12},
            {},
            r"another shape, e.g. 'cls_token' \(1, 1, 12\) in the file, \(1, 1, 24\) here",
        ),
        ({"depth": 1}, {}, "missing in the file, e.g. 'blocks.1"),
        ({"depth": 3}, {}, "have no place, e.g. 'blocks.2"),
        ({"init_values": 1e-5}, {}, "have no place, e.g. 'blocks.0.ls1.gamma'"),
        ({"reg_tokens": 2}, {}, "'pos_embed' .*; 1 of the file have no place, e.g. 'reg_token'"),
        ({"reg_tokens": 2, "no_embed_class": True}, {"no_embed_class": True}, "'reg_token'"),
        ({}, {"init_values": 1e-5}, "missing in the file, e.g. 'blocks.0.ls1.gamma'"),
    ],
)
def test_weights_of_another_network_are_named(tmp_path, source, kwargs, says):
    path = tmp_path / "w.pth"
    if isinstance(source, bytes):
        path.write_bytes(source)
    elif source == {"epoch": 3}:
        torch.save(source, path)
    elif source is not None:
        torch.save(network(**source).state_dict(), path)
    with pytest.raises(ConfigError, match=says) as caught:
        build_backbone(make_cfg(weights=path, **kwargs))
    assert str(path) in str(caught.value) and "MODEL.TIMM.WEIGHTS" in str(caught.value)


# ---- keys -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "cfg, says",
    [
        (make_cfg("resnet19"), "'resnet19'.*list_models"),
        (make_cfg("test_resnet", no_such=1), "KWARGS do not suit test_resnet.*no_such"),
        (make_cfg("beit_base_patch16_224", depth=1), "does not take tiles of any size"),
        (make_cfg("levit_128s"), r"not of \[4, 8\]"),
        (make_cfg(act_layer="Silu"), "neither timm.layers nor torch.nn has Silu"),
    ],
)
def test_wrong_names_and_arguments_are_named(cfg, says):
    with pytest.raises(ConfigError, match=says):
        build_backbone(cfg)


def test_without_timm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install timm"):
        build_backbone(make_cfg())


@pytest.mark.parametrize("name", [VIT, "test_resnet"])
def test_a_frozen_network_gets_no_gradient_and_stays_in_eval_mode(tmp_path, name):
    torch.save(network(name).state_dict(), tmp_path / "w.pth")
    cfg = make_cfg(name, tmp_path / "w.pth")
    cfg.MODEL.TIMM.FREEZE = True
    backbone = build_backbone(cfg).train()
    before = {k: v.clone() for k, v in backbone.bottom_up.state_dict().items()}
    sum(v.sum() for v in backbone(torch.rand(2, 3, 64, 64)).values()).backward()
    trained = {k for k, p in backbone.named_parameters() if p.grad is not None}
    assert trained and not any("network." in k for k in trained)
    assert not any(m.training for m in backbone.bottom_up.network.modules())
    assert all(torch.equal(v, before[k]) for k, v in backbone.bottom_up.state_dict().items())


def test_frozen_random_weights_are_warned_of(caplog):
    cfg = make_cfg()
    cfg.MODEL.TIMM.FREEZE = True
    build_backbone(cfg)
    assert "random weights stay random" in caplog.text


def test_frozen_batch_norm_keeps_its_statistics_and_activations():
    plain = build_timm_network("test_resnet")
    reference = TimmBackbone(network=build_timm_network("test_resnet"))
    reference.network.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(2, 3, 64, 64)
    frozen = TimmBackbone(network=plain, norm="frozen").train()
    with torch.no_grad():
        for a, b in zip(frozen(x).values(), reference.eval()(x).values()):
            assert torch.allclose(a, b, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    source = build_timm_network(VIT, kwargs=TINY)
    gradients = []
    for checkpointing in (False, True):
        backbone = TimmBackbone(network=build_timm_network(VIT, kwargs=TINY), checkpointing=checkpointing)
        backbone.network.load_state_dict(source.state_dict())
        backbone.train()(torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))[
            "last"
        ].square().sum().backward()
        gradients.append(backbone.network.pos_embed.grad)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)


# ---- in a detector ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [VIT, "test_convnext"])
def test_evidential_heads_train_and_detect(tmp_path, name, make_input):
    torch.manual_seed(0)
    torch.save(network(name).state_dict(), tmp_path / "w.pth")
    cfg = detector_cfg(make_cfg(name, tmp_path / "w.pth"))
    model = build_model(cfg)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    batch = [make_input(0, 1, 2, seed=1, size=80), make_input(seed=2, size=72)]  # the second without nuclei
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    with EventStorage():
        for _ in range(2):
            loss = sum(model(batch).values())
            assert torch.isfinite(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    moved = {k for k, p in model.named_parameters() if not torch.equal(p, before[k])}
    assert any("bottom_up" in k or ".net." in k for k in moved) and any("roi_heads" in k for k in moved)
    model.eval()
    with torch.no_grad():
        found = model(batch)[0]["instances"]
    assert len(found) and found.cls_uncertainty.shape == found.loc_tightness.shape == (len(found),)
    assert found.logits.shape == (len(found), 4)
    assert image_features(model, batch).shape == (2, 24 if name == VIT else 64)
