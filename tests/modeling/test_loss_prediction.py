import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from hypothesis import given
from hypothesis import strategies as st

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling import loss_prediction
from osal_detectron2.modeling.checkpoint import OpenSetCheckpointer
from osal_detectron2.modeling.loss_prediction import (
    LossPredictionModule,
    losses_per_image,
    pair_loss,
    split_box,
    split_rpn,
)
from osal_detectron2.modeling.meta_arch import target_cfg
from osal_detectron2.modeling.optimizer import build_osal_optimizer
from osal_detectron2.scoring.pool import PoolScorer, check_needs
from osal_detectron2.strategies import PredictedLoss, get_strategy


@pytest.fixture
def ll4al_cfg(toy_cfg):
    toy_cfg.MODEL.META_ARCHITECTURE = "LossPredictionRCNN"
    toy_cfg.OSAL.LL4AL.HIDDEN = 8
    return toy_cfg


def batch(make_input, seed=0):
    """Four tiles: three nuclei, none, one, two."""
    return [make_input(*c, seed=seed + i) for i, c in enumerate([(0, 1, 2), (), (1,), (2, 0)])]


def train(model, cfg, make_input, steps=3):
    optimizer = build_osal_optimizer(cfg, model.train())
    with EventStorage() as storage:
        for step in range(steps):
            torch.manual_seed(step)
            losses = model(batch(make_input, seed=10 * step))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    return storage


# ---- the pair loss -----------------------------------------------------------------------------------------
def test_vector_of_the_specification():
    """docs/reproducibility.md 8: pairs (0, 3) and (1, 2) with signs + and -, 0.5 and 1.5."""
    predicted = torch.tensor([0.2, 1.0, 0.5, -0.3])
    assert pair_loss(predicted, torch.tensor([2.0, 1.0, 3.0, 0.5])).item() == pytest.approx(1.0)
    assert pair_loss(predicted, torch.tensor([2.0, 3.0, 1.0, 0.5]), margin=0.5).item() == pytest.approx(0.0)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=12))
def test_only_the_order_of_the_losses_counts(rows):
    rows = rows[: len(rows) // 2 * 2]
    predicted, losses = torch.tensor(rows, dtype=torch.float32).T
    value = pair_loss(predicted, losses)
    assert value >= 0 and torch.equal(value, pair_loss(predicted, losses.exp() * 3 + 1))
    assert torch.allclose(value, pair_loss(predicted + 7, losses))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_tile_without_a_partner_is_an_error(size):
    with pytest.raises(ConfigError, match="SOLVER.IMS_PER_BATCH.*GPUs"):
        pair_loss(torch.zeros(size), torch.zeros(size))


# ---- the losses of each image ------------------------------------------------------------------------------
@pytest.mark.parametrize("evidence", ["posthoc", "edl"])
@pytest.mark.parametrize("base", ["toy_cfg", "c4_cfg"])
def test_losses_per_image_add_up_to_those_of_the_batch(request, base, evidence, make_input):
    cfg = request.getfixturevalue(base)
    cfg.OSAL.EVIDENCE.MODE = evidence
    cfg.MODEL.RPN.LOSS_WEIGHT, cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT = 0.5, 3.0
    model = build_model(target_cfg(cfg)).train()
    predictor, sizes = model.roi_heads.box_predictor, []

    def split(predictions, proposals):
        sizes.extend(len(p) for p in proposals)
        return split_box(predictions, proposals)

    with (
        EventStorage(),
        losses_per_image(model.proposal_generator, split_rpn) as rpn,
        losses_per_image(predictor, split) as box,
    ):
        losses = model(batch(make_input))
    (rpn,), (box,) = rpn, box
    assert len(rpn) == len(box) == 4 and not rpn.requires_grad and not box.requires_grad
    assert len(set(rpn.tolist())) == len(set(box.tolist())) == 4
    # Detectron2 divides by anchors x images, and by all RoIs.
    weights = torch.tensor(sizes) / sum(sizes)
    assert rpn.mean().item() == pytest.approx((losses["loss_rpn_cls"] + losses["loss_rpn_loc"]).item())
    assert (box * weights).sum().item() == pytest.approx((losses["loss_cls"] + losses["loss_box_reg"]).item())
    assert "losses" not in vars(predictor) and "losses" not in vars(model.proposal_generator)


def test_the_head_is_shown_all_four_losses(ll4al_cfg, make_input, monkeypatch):
    ll4al_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16  # found in every image, so that all weigh the same
    shown = []

    def spy(predicted, losses, *, margin):
        shown.append(losses)
        return pair_loss(predicted, losses, margin=margin)

    monkeypatch.setattr(loss_prediction, "pair_loss", spy)
    with EventStorage():
        losses = build_model(ll4al_cfg).train()(batch(make_input))
    total = sum(losses[k] for k in ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"))
    assert shown[0].mean().item() == pytest.approx(total.item())


# ---- the detector ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("key", "value"), [("WEIGHT", 0.0), ("DETACH_FRACTION", 0.0)])
@pytest.mark.parametrize("evidence", ["posthoc", "edl"])
@pytest.mark.parametrize("base", ["toy_cfg", "c4_cfg"])
def test_without_its_gradient_the_detector_trains_as_a_plain_one(
    request, base, evidence, key, value, make_input
):
    """Same weights, schedules and logs: the head draws no random number and leaves no trace."""
    cfg = request.getfixturevalue(base)
    cfg.OSAL.EVIDENCE.MODE, cfg.OSAL.LL4AL[key] = evidence, value
    models, logs = {}, {}
    for name in ("GeneralizedRCNN", "LossPredictionRCNN"):
        cfg.MODEL.META_ARCHITECTURE = name
        torch.manual_seed(5)
        models[name] = build_model(cfg)
        storage = train(models[name], cfg, make_input)
        logs[name] = {k: history.values() for k, history in storage.histories().items()}
    plain, ours = (m.state_dict() for m in models.values())
    assert all(torch.equal(ours[k], v) for k, v in plain.items())
    assert all(k.startswith("loss_prediction.") for k in ours.keys() - plain.keys())
    expected = logs["GeneralizedRCNN"]
    assert {k: v for k, v in logs["LossPredictionRCNN"].items() if k in expected} == expected


def test_with_its_gradient_it_does_not(ll4al_cfg, make_input):
    weights = []
    for ll4al_cfg.OSAL.LL4AL.WEIGHT in (0.0, 1.0):
        torch.manual_seed(5)
        model = build_model(ll4al_cfg)
        train(model, ll4al_cfg, make_input)
        weights.append(model.backbone.p2.weight)
    assert not torch.equal(*weights)


def test_the_gradient_into_the_backbone_ends_in_each_round(ll4al_cfg, make_input):
    ll4al_cfg.OSAL.LL4AL.DETACH_FRACTION = 0.6
    model = build_model(ll4al_cfg).train()

    def reaches(steps):
        seen = []
        for _ in range(steps):
            with EventStorage():
                loss = model(batch(make_input))["loss_prediction"]
            model.zero_grad()
            loss.backward()
            assert all(p.grad is not None for p in model.loss_prediction.parameters())
            seen.append(model.backbone.p2.weight.grad is not None)
        return seen

    head = model.loss_prediction
    head.set_clock(round_iters=5, step=0)
    assert reaches(5) == [True, True, True, False, False]
    head.set_clock(round_iters=10, step=0)  # weights continue, the round is a new one
    assert reaches(4) == [True] * 4
    resumed = LossPredictionModule(ll4al_cfg, model.backbone.output_shape())
    resumed.load_state_dict(
        {**head.state_dict(), "round_iters": torch.tensor(10)}
    )  # as an older version saved it
    model.loss_prediction = resumed
    resumed.set_clock(round_iters=10, step=4)  # a killed run goes on at iteration 4
    assert reaches(6) == [True] * 2 + [False] * 4
    resumed.set_clock(round_iters=2, step=0)
    assert reaches(2) == [True, True]  # 0.6 of two iterations is reached after the second


def test_prediction_costs_the_backbone_and_no_more(ll4al_cfg, make_input):
    model = build_model(ll4al_cfg).train()

    def fail(*args):
        raise AssertionError("not needed")

    model.proposal_generator.register_forward_hook(fail)
    model.roi_heads.register_forward_hook(fail)
    values = model.predict_loss(batch(make_input))
    assert values.shape == (4,) and values.dtype == torch.float32 and not values.requires_grad
    assert model.training and model.loss_prediction.steps == 0


def test_the_pool_gets_one_number_a_tile(ll4al_cfg, make_input):
    model = build_model(ll4al_cfg)
    keys = ("a", "b", "c")
    records = {k: {"image_key": k, "seed": i} for i, k in enumerate(keys)}

    def mapper(record):
        return {**make_input(seed=record["seed"]), "image_key": record["image_key"]}

    tables = []
    for batch_size in (1, 2):
        scorer = PoolScorer(model, records, mapper=mapper, batch_size=batch_size)
        tables.append(scorer.run(PredictedLoss(over=keys)))
        assert scorer.passes == {"target backbone": 3}
    one, two = ([t[k]["predicted_loss"].item() for k in keys] for t in tables)
    assert tables[0]["a"]["predicted_loss"].shape == (1,) and len(set(one)) == 3
    assert one == pytest.approx(two, abs=1e-5)
    plain = build_model(target_cfg(ll4al_cfg))
    with pytest.raises(
        ConfigError, match="ll4al needs a detector that predicts its loss.*LossPredictionRCNN"
    ):
        check_needs(get_strategy("ll4al"), plain)
    check_needs(get_strategy("ll4al"), model)


# ---- configs and checkpoints -------------------------------------------------------------------------------
def test_a_plain_detector_is_loaded_and_only_the_head_is_missing(ll4al_cfg, tmp_path):
    plain, model = build_model(target_cfg(ll4al_cfg)), build_model(ll4al_cfg)
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")
    found = OpenSetCheckpointer(model)._load_model(torch.load(tmp_path / "plain.pth"))
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in plain.state_dict().items())
    assert found.missing_keys and all(k.startswith("loss_prediction.") for k in found.missing_keys)
    assert not found.incorrect_shapes and not found.unexpected_keys


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.IMS_PER_BATCH", 5, r"SOLVER.IMS_PER_BATCH.* 5 tiles on 1 GPU .*multiple of 2"),
        ("SOLVER.IMS_PER_BATCH", 1, "SOLVER.IMS_PER_BATCH"),
        ("OSAL.DATA.UNKNOWN_POLICY", "ignore", "use the policy drop"),
        ("OSAL.LL4AL.DETACH_FRACTION", 80.0, "fraction from 0 to 1"),
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "one box predictor"),
    ],
)
def test_what_cannot_work_is_refused_when_the_model_is_built(ll4al_cfg, key, value, message):
    ll4al_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True  # a cascade asks for it
    ll4al_cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError, match=message):
        build_model(ll4al_cfg)
