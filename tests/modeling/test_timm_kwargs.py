"""Keyword arguments of timm networks: those that the documented foundation models (docs/backbones.md) need."""

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.timm_backbones import build_timm_network, parse_kwargs


def test_kwargs_are_literals_layers_and_words():
    found = parse_kwargs(
        ["init_values=1e-5", "no_embed_class=True", "mlp_layer=SwiGLUPacked", "act_layer=SiLU", "a=b"]
    )
    assert found == {
        "init_values": 1e-5,
        "no_embed_class": True,
        "mlp_layer": timm.layers.SwiGLUPacked,
        "act_layer": nn.SiLU,
        "a": "b",
    }
    with pytest.raises(ConfigError, match='write "key=value"'):
        parse_kwargs(["init_values"])


def documented_models():
    page = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
    rows = re.findall(r"^\| (.+?) \| `(vit_\w+)` \|(.*?)\| ([\d.]+) G \|$", page.read_text(), re.M)
    found, before = [], []
    for model, name, text, size in rows:
        kwargs = (before if "the same" in text else []) + [
            w for w in re.findall(r"[\w.=-]+", text) if "=" in w
        ]
        found.append(pytest.param(name, kwargs, float(size), id=model))
        before = kwargs
    assert len(found) == 6
    return found


@pytest.mark.parametrize("name, kwargs, billions", documented_models())
def test_a_documented_foundation_model_is_a_vit_that_timm_has(name, kwargs, billions):
    with torch.device("meta"):  # gigabytes of weights that nobody has to hold
        found = build_timm_network(name, kwargs=parse_kwargs(kwargs))
    assert len({info["reduction"] for info in found.feature_info}) == 1
    assert sum(p.numel() for p in found.parameters()) / 1e9 == pytest.approx(billions, rel=0.12)
    assert hasattr(found.blocks[0].ls1, "gamma") == ("init_values=1e-5" in kwargs or "dinov2" in name)
