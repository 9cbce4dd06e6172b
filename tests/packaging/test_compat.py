"""The installed Detectron2 has what the package needs, in the form that it needs; another is refused by name.

tools/version_matrix.py runs this first in every combination of versions.
"""

import ast
import inspect
from pathlib import Path

import pytest
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference_single_image
from detectron2.solver.build import get_default_optimizer_params
from detectron2.structures import ImageList

from osal_detectron2.compat import RELIED_ON, absent_names

ROOT = Path(__file__).resolve().parents[2]


def arguments(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_everything_relied_on_is_there():
    assert absent_names() == []


@pytest.mark.parametrize(
    "function, wanted",
    [
        (
            fast_rcnn_inference_single_image,
            ["boxes", "scores", "image_shape", "score_thresh", "nms_thresh", "topk_per_image"],
        ),
        (FastRCNNOutputLayers.inference, ["predictions", "proposals"]),
        (FastRCNNOutputLayers.losses, ["predictions", "proposals"]),
        (StandardROIHeads._forward_box, ["features", "proposals"]),
        (Res5ROIHeads._shared_roi_transform, ["features", "boxes"]),
        (SimpleTrainer.__init__, ["model", "data_loader", "optimizer"]),
        (AMPTrainer.__init__, ["model", "data_loader", "optimizer"]),
        (ImageList.from_tensors, ["tensors", "size_divisibility", "pad_value", "padding_constraints"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_arguments_are_in_the_order_that_is_relied_on(function, wanted):
    assert arguments(function)[: len(wanted)] == wanted


def test_optimizer_params_take_overrides_by_name():
    assert {"base_lr", "bias_lr_factor", "weight_decay_norm", "weight_decay_bias", "overrides"} <= set(
        arguments(get_default_optimizer_params)
    )


def test_private_names_of_detectron2_are_all_on_the_list():
    listed = {name for names in RELIED_ON.values() for dotted in names for name in dotted.split(".")}
    imported = {
        (path.name, alias.name)
        for path in (ROOT / "osal_detectron2").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detectron2")
        for alias in node.names
        if alias.name.startswith("_") and alias.name not in listed | {"__version__"}
    }
    assert imported == set()


def test_a_detectron2_that_is_too_old_is_refused_by_name(monkeypatch):
    import osal_detectron2

    monkeypatch.delattr("detectron2.utils.events.has_event_storage")
    monkeypatch.delitem(vars(osal_detectron2), "add_osal_config", raising=False)
    with pytest.raises(ImportError) as caught:
        from osal_detectron2 import add_osal_config  # noqa: F401
    last = str(caught.value)
    assert last.startswith("Detectron2") and "detectron2.utils.events.has_event_storage" in last
    assert "sal-detectron2==0.7.2" in last
