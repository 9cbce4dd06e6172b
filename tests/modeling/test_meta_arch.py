import copy
import pickle
import subprocess
import sys

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from osal_detectron2.modeling.checkpoint import OpenSetCheckpointer
from osal_detectron2.modeling.meta_arch import (
    OSALRCNN,
    auxiliary_cfg,
    auxiliary_view,
    target_cfg,
    target_view,
)
from osal_detectron2.modeling.optimizer import build_optimizer_params, build_osal_optimizer

K = 3


def batch(make_input, seed):
    return [make_input(0, 1, 2, K, seed=seed), make_input(K, seed=seed + 100)]


def three_steps(models, optimizer, inputs_of):
    """Three SGD steps on the sum of the losses of `models`, with all sampling seeded per model and step."""
    with EventStorage():
        for step in range(3):
            loss = 0.0
            for name, model in models.items():
                torch.manual_seed(step)
                loss = loss + sum(model(inputs_of(name, step)).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_one_training_of_both_equals_two_trainings_apart(toy_cfg, make_input, monkeypatch):
    toy_cfg.OSAL.PROTOTYPE.WARMUP_ITERS, toy_cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 1, 0.0
    toy_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True  # by value: does not couple the two
    together = build_model(toy_cfg).train()
    apart = {"auxiliary": build_model(auxiliary_cfg(toy_cfg)), "target": build_model(target_cfg(toy_cfg))}
    for name, model in apart.items():
        model.load_state_dict(getattr(together, name).state_dict())
        model.train()
        # Each child samples from the same random numbers as its twin.
        child = getattr(together, name)
        forward = child.forward

        def seeded(inputs, forward=forward):
            torch.manual_seed(seeded.step)
            return forward(inputs)

        monkeypatch.setattr(child, "forward", seeded)
    views = {"auxiliary": lambda i: auxiliary_view(i, K), "target": lambda i: target_view(i, K, "drop")}

    def both(name, step):
        for child in (together.auxiliary, together.target):
            child.forward.step = step
        return batch(make_input, step)

    def one(name, step):
        return [{**x, "instances": views[name](x["instances"])} for x in batch(make_input, step)]

    seeded.step = 0
    three_steps({"both": together}, build_osal_optimizer(toy_cfg, together), both)
    for name, model in apart.items():
        three_steps({name: model}, build_osal_optimizer(toy_cfg, model), one)
        for key, value in model.state_dict().items():
            assert torch.allclose(
                value.float(), getattr(together, name).state_dict()[key].float(), atol=1e-6
            ), key
    assert together.auxiliary.roi_heads.box_branches["prototype"].initialised.all()


def test_losses_and_logs_are_told_apart_and_inputs_stay_as_they_are(toy_cfg, make_input):
    model = build_model(toy_cfg).train()
    inputs = batch(make_input, 0)
    before = copy.deepcopy(inputs)
    with EventStorage() as storage:
        losses = model(inputs)
        names = set(storage.latest())
    assert "auxiliary/loss_prototype" in losses and "target/loss_cls" in losses
    assert all(key.startswith(("auxiliary/", "target/")) for key in losses)
    assert {"auxiliary/roi_head/num_fg_samples", "target/roi_head/num_fg_samples"} <= names
    for x, y in zip(inputs, before):
        assert x.keys() == y.keys() and torch.equal(x["image"], y["image"])
        assert torch.equal(x["instances"].gt_classes, y["instances"].gt_classes)
        assert torch.equal(x["instances"].gt_boxes.tensor, y["instances"].gt_boxes.tensor)
        assert set(x["instances"].get_fields()) == {"gt_boxes", "gt_classes"}


def test_inference_is_the_targets(toy_cfg, make_input):
    model = build_model(toy_cfg).eval()
    with torch.no_grad():
        ours, targets = model([make_input()])[0]["instances"], model.target([make_input()])[0]["instances"]
        raw = model.inference([make_input()], do_postprocess=False)[0]
    assert torch.equal(ours.pred_boxes.tensor, targets.pred_boxes.tensor) and ours.has("cls_uncertainty")
    assert raw.image_size == (128, 128) and ours.image_size == (256, 256)


def test_children_have_their_own_classes_and_thresholds(toy_cfg):
    toy_cfg.OSAL.AUXILIARY.SCORE_THRESH = 0.3
    model = build_model(toy_cfg)
    auxiliary, target = model.auxiliary.roi_heads, model.target.roi_heads
    assert (auxiliary.num_classes, target.num_classes) == (2, K)
    assert (auxiliary.box_predictor.test_score_thresh, target.box_predictor.test_score_thresh) == (0.3, 0.0)
    assert (auxiliary.box_predictor.nms, target.box_predictor.nms) == ("class_agnostic", "per_class")
    assert toy_cfg.MODEL.ROI_HEADS.NUM_CLASSES == K and toy_cfg.MODEL.META_ARCHITECTURE == "OSALRCNN"


def test_target_starts_from_the_weights_of_the_plain_detector_with_the_same_seed(toy_cfg):
    torch.manual_seed(4)
    model = build_model(toy_cfg)
    torch.manual_seed(4)
    plain = build_model(target_cfg(toy_cfg))
    assert all(torch.equal(v, model.target.state_dict()[k]) for k, v in plain.state_dict().items())


def test_explicit_construction_needs_no_config(toy_cfg, make_input):
    model = OSALRCNN(
        auxiliary=build_model(auxiliary_cfg(toy_cfg)), target=build_model(target_cfg(toy_cfg)), num_known=K
    )
    with EventStorage():
        assert all(torch.isfinite(v) for v in model.train()(batch(make_input, 0)).values())


def test_checkpoint_round_trip(toy_cfg, tmp_path, make_input):
    toy_cfg.OSAL.PROTOTYPE.WARMUP_ITERS, toy_cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 0, 0.0
    model = build_model(toy_cfg).train()
    three_steps(
        {"both": model}, build_osal_optimizer(toy_cfg, model), lambda name, step: batch(make_input, step)
    )
    OpenSetCheckpointer(model, str(tmp_path)).save("model")
    loaded = build_model(toy_cfg)
    OpenSetCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    state = loaded.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert state["auxiliary.roi_heads.box_branches.prototype.steps"] == 3


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_plain_detector_is_loaded_into_both_children(toy_cfg, tmp_path, prefix):
    plain = build_model(target_cfg(toy_cfg))
    torch.save({"model": {prefix + k: v for k, v in plain.state_dict().items()}}, tmp_path / "plain.pth")
    model = build_model(toy_cfg)
    untouched = model.auxiliary.roi_heads.box_predictor.cls_score.weight.clone()
    checkpoint = torch.load(tmp_path / "plain.pth")
    found = OpenSetCheckpointer(model)._load_model(checkpoint)
    for name in (
        "backbone.p3.weight",
        "proposal_generator.rpn_head.conv.weight",
        "roi_heads.box_head.fc1.weight",
    ):
        for child in ("auxiliary", "target"):
            assert torch.equal(model.state_dict()[f"{child}.{name}"], plain.state_dict()[name])
    assert torch.equal(
        model.target.roi_heads.box_predictor.cls_score.weight, plain.roi_heads.box_predictor.cls_score.weight
    )
    assert torch.equal(model.auxiliary.roi_heads.box_predictor.cls_score.weight, untouched)
    assert {key for key, *_ in found.incorrect_shapes} == {
        f"auxiliary.roi_heads.box_predictor.{layer}.{part}"
        for layer in ("cls_score", "bbox_pred")
        for part in ("weight", "bias")
    }
    assert all("prototype" in key or "box_predictor" in key for key in found.missing_keys)


def test_caffe2_backbone_is_loaded_into_both_children(c4_cfg, tmp_path):
    """The format of ImageNetPretrained/MSRA/R-50.pkl, which plain matching refuses for two children."""
    model = build_model(c4_cfg)
    shape = tuple(model.target.backbone.res2[0].conv1.weight.shape)
    blobs = {
        "res2_0_branch2a_w": torch.full(shape, 0.5).numpy(),
        "res2_0_branch2a_bn_s": torch.ones(shape[0]).numpy(),
    }
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(blobs))
    with pytest.raises(ValueError, match="multiple keys"):
        DetectionCheckpointer(model).load(str(path))
    OpenSetCheckpointer(model).load(str(path))
    for child in (model.auxiliary, model.target):
        assert (child.backbone.res2[0].conv1.weight == 0.5).all()


def test_optimizer_gives_prototypes_their_own_rate(toy_cfg):
    toy_cfg.SOLVER.BASE_LR, toy_cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.02, 0.0
    model = build_model(toy_cfg)
    groups = build_optimizer_params(toy_cfg, model)
    prototypes = model.auxiliary.roi_heads.box_branches["prototype"].prototypes
    own = [g for g in groups if any(p is prototypes for p in g["params"])]
    assert len(own) == 1 and own[0]["params"] == [prototypes]
    assert (own[0]["lr"], own[0]["weight_decay"]) == (0.5, 0.0)
    assert all(g["lr"] == 0.02 for g in groups if g is not own[0])
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in trained)
    optimizer = build_osal_optimizer(toy_cfg, model)
    assert optimizer.defaults["momentum"] == toy_cfg.SOLVER.MOMENTUM


def test_a_fresh_process_knows_the_branches_that_the_config_names():
    code = (
        "from detectron2.config import get_cfg\n"
        "from osal_detectron2 import add_osal_config\n"
        "cfg = get_cfg()\nadd_osal_config(cfg)\n"
        "from osal_detectron2.modeling.box_branch import found_branch\n"
        "names = cfg.MODEL.ROI_HEADS.BOX_BRANCHES + cfg.OSAL.AUXILIARY.BOX_BRANCHES\n"
        "print([found_branch(name).__name__ for name in names])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[-2:] == ["['EvidentialBranch', 'PrototypeBranch']", ""], done.stderr[-500:]
