"""OSAL.AUXILIARY.BACKBONE: what is shared, who trains it, and that nothing else changes."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.checkpoint import OpenSetCheckpointer
from osal_detectron2.modeling.meta_arch import target_cfg, target_view
from osal_detectron2.modeling.optimizer import build_osal_optimizer
from osal_detectron2.modeling.unknown import PSEUDO

K = 3


def model_of(cfg, backbone: str):
    cfg.OSAL.AUXILIARY.BACKBONE = backbone
    return build_model(cfg).train()


def losses_of(model, inputs):
    torch.manual_seed(0)
    with EventStorage():
        return model(inputs)


def gradients(model, losses, prefix: str) -> dict[str, torch.Tensor]:
    """Of the target's backbone, from the losses whose names begin with `prefix`."""
    model.zero_grad()
    sum(v for k, v in losses.items() if k.startswith(prefix)).backward()
    return {k: p.grad for k, p in model.target.backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backbone, reached", [("detached", False), ("shared", True)])
def test_who_trains_the_backbone_and_how_often_it_runs(toy_cfg, make_input, backbone, reached):
    toy_cfg.OSAL.PROTOTYPE.WARMUP_ITERS, toy_cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 0, 0.0
    model = model_of(toy_cfg, backbone)
    inputs = [make_input(0, 1, 2, K, seed=1), make_input(K, seed=2)]
    calls = []
    model.target.backbone.register_forward_hook(lambda *args: calls.append(1))
    losses = losses_of(model, inputs)
    assert len(calls) == 1
    found = gradients(model, losses, "auxiliary/")
    assert any(g.abs().sum() > 0 for g in found.values()) is reached
    assert any(p.grad is not None for p in model.auxiliary.roi_heads.parameters())
    assert not [k for k in model.state_dict() if k.startswith("auxiliary.backbone")]
    names = [id(p) for group in build_osal_optimizer(toy_cfg, model).param_groups for p in group["params"]]
    assert len(names) == len(set(names)) == len(list(model.parameters()))


def test_a_detached_backbone_leaves_the_target_as_it_trains_alone(toy_cfg, make_input):
    model = model_of(toy_cfg, "detached")
    alone = build_model(target_cfg(toy_cfg)).train()
    alone.load_state_dict(model.target.state_dict())
    inputs = [make_input(0, 1, 2, K, seed=1), make_input(1, seed=2)]
    losses = losses_of(model, inputs)
    expected = losses_of(alone, [{**x, "instances": target_view(x["instances"], K, "drop")} for x in inputs])
    assert {k.removeprefix("target/"): v for k, v in losses.items() if k.startswith("target/")} == expected
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    for (name, mine), other in zip(model.target.named_parameters(), alone.parameters()):
        assert (mine.grad is None) == (other.grad is None), name
        assert mine.grad is None or torch.equal(mine.grad, other.grad), name


def test_inference_computes_the_features_of_its_own_images(toy_cfg, make_input):
    model = model_of(toy_cfg, "shared")
    one, two = [make_input(0, 1, seed=1)], [make_input(2, seed=2)]
    losses_of(model, one)
    model.eval()
    with torch.no_grad():
        after_training = model.auxiliary(two)[0]["instances"].scores
        model.target(one)
        again = model.auxiliary(two)[0]["instances"].scores
    assert torch.equal(after_training, again)


def test_a_step_that_fails_leaves_no_features_behind(toy_cfg, make_input, monkeypatch):
    model = model_of(toy_cfg, "shared")
    with monkeypatch.context() as patch:
        patch.setattr(model.target.roi_heads, "forward", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            losses_of(model, [make_input(0, 1, seed=1)])
    model.eval()
    two = [make_input(2, seed=2)]
    with torch.no_grad():
        first, again = (model.auxiliary(two)[0]["instances"].scores for _ in range(2))
    assert torch.equal(first, again)


def test_scoring_with_the_auxiliary_puts_the_shared_backbone_into_inference(toy_cfg):
    model = model_of(toy_cfg, "shared")
    model.auxiliary.eval()
    assert not any(m.training for m in model.target.backbone.modules())
    assert model.target.roi_heads.training
    model.auxiliary.train()
    assert model.target.backbone.training


def test_copies_and_checkpoints(toy_cfg, tmp_path, make_input):
    model = model_of(toy_cfg, "detached").eval()
    inputs = [make_input(0, 1, seed=1)]
    OpenSetCheckpointer(model, str(tmp_path)).save("all")
    loaded = model_of(toy_cfg, "detached").eval()
    OpenSetCheckpointer(loaded).load(str(tmp_path / "all.pth"))
    twin = copy.deepcopy(model)
    for p in model.target.backbone.parameters():
        nn.init.zeros_(p)  # neither follows the original
    with torch.no_grad():
        for a, b in zip(*(m.auxiliary(inputs)[0]["instances"].get_fields().values() for m in (loaded, twin))):
            assert torch.equal(getattr(a, "tensor", a), getattr(b, "tensor", b))
    assert twin.auxiliary.backbone._owner[0] is twin.target.backbone


def test_an_unknown_word_is_refused(toy_cfg):
    with pytest.raises(ConfigError, match="own, shared, detached"):
        model_of(toy_cfg, "both")


def test_tiles_that_a_teacher_labelled_are_for_the_target_alone(toy_cfg, make_input):
    model = model_of(toy_cfg, "shared")
    inputs = [make_input(0, 1, K, seed=1), {**make_input(2, seed=2), PSEUDO: True}]
    seen = {}
    for name in ("target", "auxiliary"):
        getattr(model, name).register_forward_pre_hook(
            lambda module, args, name=name: seen.__setitem__(name, [len(x["instances"]) for x in args[0]])
        )
    losses = losses_of(model, inputs)
    assert seen == {"target": [2, 1], "auxiliary": [3]}  # two known, one unknown; one that the teacher found
    assert all(torch.isfinite(v).all() for v in losses.values())
