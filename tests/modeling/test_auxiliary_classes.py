"""The auxiliary of LfOSA: K + 1 classes, a temperature, no prototypes; and that all of it is off by default."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.detectors import Detectors
from osal_detectron2.modeling.fast_rcnn import OpenSetFastRCNNOutputLayers
from osal_detectron2.modeling.meta_arch import auxiliary_cfg, auxiliary_view
from osal_detectron2.scoring.pool import PoolScorer, check_needs
from osal_detectron2.scoring.query import run_query
from osal_detectron2.strategies import Pass, QueryContext, get_strategy

K = 3
ARGUMENTS = {
    "input_shape": ShapeSpec(channels=4),
    "box2box_transform": Box2BoxTransform(weights=(10, 10, 5, 5)),
    "num_classes": 2,
    "test_score_thresh": 0.05,
    "test_topk_per_image": 100,
}


def sampled_regions(n=12):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(n, 2, generator=generator) * 70
    regions = Instances((100, 100))
    regions.proposal_boxes = Boxes(torch.cat([corners, corners + 20], dim=1))
    regions.gt_boxes = Boxes(regions.proposal_boxes.tensor + 1.5)
    regions.gt_classes = torch.randint(0, 3, (n,), generator=generator)
    logits = torch.randn(n, 3, generator=generator, requires_grad=True)
    return (logits, torch.randn(n, 8, generator=generator)), regions


@pytest.fixture(params=["toy_cfg", "c4_cfg"])
def cfg(request):
    """Models with a box head and with res5."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def lfosa_cfg(cfg):
    cfg.merge_from_list([word for pair in get_strategy("lfosa").overrides.items() for word in pair])
    return cfg


# ---- labels ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("classes", "expected"), [("known_unknown", [0, 0, 0, 1]), ("k_plus_one", [0, 2, 1, K])]
)
def test_labels_of_both_views(make_input, classes, expected):
    instances = make_input(0, 2, 1, K)["instances"]
    view = auxiliary_view(instances, K, classes)
    assert view.gt_classes.tolist() == expected and view.gt_classes.dtype == torch.long
    assert instances.gt_classes.tolist() == [0, 2, 1, K]
    assert torch.equal(view.gt_boxes.tensor, instances.gt_boxes.tensor)


def test_the_auxiliary_has_the_classes_and_trains_on_them(lfosa_cfg, make_input):
    """With all logits zero, each has the gradient (1/5 - its share of regions) / T; unknown regions are class K."""
    model = build_model(lfosa_cfg).train()
    assert model.auxiliary.roi_heads.num_classes == K + 1
    assert model.target.roi_heads.num_classes == lfosa_cfg.MODEL.ROI_HEADS.NUM_CLASSES == K
    scores = model.auxiliary.roi_heads.box_predictor.cls_score
    torch.nn.init.zeros_(scores.weight)
    with EventStorage():
        losses = model([make_input(K)])
        losses["auxiliary/loss_cls"].backward()
    assert scores.bias.grad[:K].tolist() == pytest.approx([0.4] * K)
    assert scores.bias.grad[K] < 0.39 and scores.bias.grad.sum().item() == pytest.approx(0, abs=1e-6)
    assert all(torch.isfinite(v) for v in losses.values())


def test_other_classes_are_refused(toy_cfg):
    toy_cfg.OSAL.AUXILIARY.CLASSES = "k"
    with pytest.raises(ConfigError, match="OSAL.AUXILIARY.CLASSES: 'k'.*k_plus_one"):
        auxiliary_cfg(toy_cfg)


# ---- temperature -------------------------------------------------------------------------------------------
def test_loss_and_scores_are_those_of_h_over_t_and_nothing_else_changes():
    predictions, regions = sampled_regions()
    plain = OpenSetFastRCNNOutputLayers(**ARGUMENTS)
    cold = OpenSetFastRCNNOutputLayers(**ARGUMENTS, temperature=0.5)
    with EventStorage():
        losses, reference = cold.losses(predictions, [regions]), plain.losses(predictions, [regions])
    expected = torch.nn.functional.cross_entropy(predictions[0] / 0.5, regions.gt_classes)
    assert losses["loss_cls"].item() == pytest.approx(expected.item())
    assert torch.equal(losses["loss_box_reg"], reference["loss_box_reg"])
    assert torch.allclose(
        cold.predict_probs(predictions, [regions])[0], (2 * predictions[0]).softmax(dim=1), atol=1e-6
    )
    features = torch.randn(5, 4)
    cold.load_state_dict(plain.state_dict())
    assert torch.equal(cold(features)[0], plain(features)[0])


def test_without_a_temperature_everything_is_detectron2s_to_the_bit():
    predictions, regions = sampled_regions()
    results = []
    for cls in (OpenSetFastRCNNOutputLayers, FastRCNNOutputLayers):
        layers = cls(**ARGUMENTS)
        with EventStorage():
            losses = layers.losses(predictions, [regions])
        (gradient,) = torch.autograd.grad(losses["loss_cls"], predictions[0])
        results.append([*losses.values(), gradient, layers.predict_probs(predictions, [regions])[0]])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results))


def test_detections_carry_raw_logits_and_tempered_scores(lfosa_cfg, make_input):
    model = build_model(lfosa_cfg).eval()
    assert model.target.roi_heads.box_predictor.temperature == 1.0
    with torch.no_grad():
        model.auxiliary.roi_heads.box_predictor.cls_score.weight.mul_(30)
        found = model.auxiliary([make_input(seed=3)])[0]["instances"]
    rows = torch.arange(len(found))
    assert len(found) > 10 and found.logits.shape[1] == K + 2
    for temperature, same in ((0.5, True), (1.0, False)):
        scores = (found.logits / temperature).softmax(dim=1)[rows, found.pred_classes]
        assert torch.allclose(scores, found.scores, atol=1e-5) == same


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"TEMPERATURE": 0.0}, "TEMPERATURE is 0.0"),
        ({"TEMPERATURE": 0.5, "BOX_BRANCHES": ["EvidentialBranch"]}, "softmax classifier"),
    ],
)
def test_temperatures_that_cannot_work_are_refused(toy_cfg, changes, match):
    toy_cfg.OSAL.EVIDENCE.MODE = "edl"
    for key, value in changes.items():
        toy_cfg.OSAL.AUXILIARY[key] = value
    with pytest.raises(ConfigError, match=match):
        build_model(toy_cfg)


# ---- no prototypes -----------------------------------------------------------------------------------------
def test_lfosa_has_no_prototypes_to_train_or_to_refit(lfosa_cfg, make_input):
    model = build_model(lfosa_cfg).train()
    with EventStorage():
        losses = model([make_input(0, K)])
    assert not any("prototype" in name for name in (*losses, *model.state_dict()))
    assert Detectors(model).prototypes is None
    check_needs(get_strategy("lfosa"), model)
    with pytest.raises(ConfigError, match="dist_known"):
        check_needs(get_strategy("osal_nd"), model)


# ---- both baselines with a real model ----------------------------------------------------------------------
@pytest.fixture
def scorer(lfosa_cfg, make_input):
    records = {f"{i}.png": {**make_input(0, K, seed=i), "image_key": f"{i}.png"} for i in range(6)}
    return PoolScorer(
        build_model(lfosa_cfg), records, mapper=lambda r: r, labelled_mapper=lambda r: r, batch_size=2
    )


@pytest.mark.parametrize("name", ["lfosa", "openal"])
def test_a_query(scorer, name):
    context = QueryContext(
        pool=tuple(f"{i}.png" for i in range(4)),
        budget=2,
        seed=0,
        round_index=0,
        labelled={"4.png": {"a": 1, "u": 1}, "5.png": {"a": 1, "u": 1}},
        known_classes=("a", "b", "c"),
    )
    strategy = get_strategy(name)()
    check_needs(strategy, scorer.detectors.model)
    selection = run_query(strategy, context, scorer)
    assert len(selection.selected) == 2 and all(n > 5 for n in selection.scores["n_detected"].values())
    assert scorer.passes["target"] == 4  # one full pass, whatever else there is


def test_box_features_of_a_pool_are_not_kept(scorer):
    """At release size they would be gigabytes; what is kept need not be computed again."""
    keys = tuple(f"{i}.png" for i in range(4))
    for fields, passes in ((("logits",), 4), (("logits",), 4), (("roi_feature",), 8), (("roi_feature",), 12)):
        table = scorer.run(Pass(over=keys, fields=fields))
        assert all(len(row[fields[0]]) == len(row["scores"]) > 5 for row in table.values())
        assert scorer.passes["target"] == passes
    scorer.run(Pass(over=keys, fields=("logits",)))
    assert scorer.passes["target"] == 12
