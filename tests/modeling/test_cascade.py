import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import Boxes, pairwise_iou
from detectron2.structures.boxes import matched_pairwise_iou
from detectron2.utils.events import EventStorage

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.features import ground_truth_features
from osal_detectron2.modeling.meta_arch import target_cfg
from osal_detectron2.modeling.optimizer import build_osal_optimizer
from osal_detectron2.modeling.prototypes import prototype_loss
from osal_detectron2.modeling.roi_heads import OpenSetBoxHeads, box_predictors
from osal_detectron2.scoring.pool import check_needs
from osal_detectron2.strategies import get_strategy

K = 3


@pytest.fixture
def cascade_cfg(toy_cfg):
    """OSALRCNN of two cascades."""
    toy_cfg.MODEL.ROI_HEADS.NAME = "OpenSetCascadeROIHeads"
    toy_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    toy_cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "OpenSetCascadeROIHeads"
    toy_cfg.OSAL.PROTOTYPE.WARMUP_ITERS, toy_cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 0, 0.0
    return toy_cfg


@pytest.fixture
def detector(cascade_cfg):
    """A plain detector with both kinds of fields, whose stages differ and move their regions."""
    cfg = target_cfg(cascade_cfg)
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = ["PrototypeBranch", "EvidentialBranch"]
    torch.manual_seed(0)
    model = build_model(cfg)
    for predictor in model.roi_heads.box_predictor:
        torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.01)
        torch.nn.init.normal_(predictor.cls_score.weight, std=0.03)
    return model


def spy(modules, method=None):
    """For each module the (arguments, result) of its calls, of `forward` or of `method`."""
    calls = [[] for _ in modules]
    for module, seen in zip(modules, calls):
        if method is None:
            module.register_forward_hook(lambda m, args, out, seen=seen: seen.append((args, out)))
        else:
            original = getattr(module, method)

            def recording(*args, original=original, seen=seen):
                seen.append((args, original(*args)))
                return seen[-1][1]

            setattr(module, method, recording)
    return calls


def test_fields_come_from_the_last_stage_and_tightness_from_the_rpn(detector, make_input):
    heads = detector.eval().roi_heads
    heads.keep_roi_features = True
    heads.box_branches["prototype"].set_prototypes(torch.rand(2, 32), torch.tensor([True, True]))
    stages = spy(heads.box_predictor)
    decoded = spy(heads.box_predictor, "predict_boxes")
    (rpn,) = spy([detector.proposal_generator])
    with torch.no_grad():
        found = detector.inference([make_input(seed=5), make_input(seed=6)], do_postprocess=False)
    proposals, _ = rpn[0][1]
    sizes = [len(p) for p in proposals]
    features, logits = stages[-1][0][0][0].split(sizes), stages[-1][0][1][0].split(sizes)
    probabilities = [calls[0][1][0].softmax(dim=1).split(sizes) for calls in stages]
    for image, one in enumerate(found):
        assert len(one) > 20
        rows = torch.cdist(one.roi_feature, features[image]).argmin(dim=1)
        assert torch.equal(features[image][rows], one.roi_feature)
        assert torch.equal(logits[image][rows], one.logits)
        mean = torch.stack([p[image][rows] for p in probabilities]).mean(dim=0)
        torch.testing.assert_close(mean.gather(1, one.pred_classes[:, None])[:, 0], one.scores)
        first = proposals[image].proposal_boxes[rows]
        torch.testing.assert_close(one.loc_tightness, matched_pairwise_iou(one.pred_boxes, first))
        # The last stage's own proposal would say something else.
        last = decoded[-1][0][0][1][image].proposal_boxes[rows]
        assert (one.loc_tightness - matched_pairwise_iou(one.pred_boxes, last)).abs().mean() > 0.05
        for branch in heads.box_branches.values():
            for name, values in branch.fields(one.roi_feature, one.logits).items():
                torch.testing.assert_close(one.get(name), values)


def test_the_prototypes_learn_from_the_foreground_of_the_last_stage(detector, make_input):
    heads = detector.train().roi_heads
    prototype = heads.box_branches["prototype"]
    stages, losses = spy(heads.box_predictor), spy(heads.box_predictor, "losses")
    with EventStorage():
        reported = detector([make_input(0, 1, 2, seed=1), make_input(seed=2)])
    classes = torch.cat([p.gt_classes for p in losses[-1][0][0][1]])
    features = stages[-1][0][0][0]
    assert 0 < (classes < K).sum() == prototype.feature_counts.sum()
    expected = prototype_loss(
        features[classes < K],
        (classes[classes < K] == K - 1).long(),
        prototype.prototypes,
        prototype.initialised,
        prototype.margin,
    )
    torch.testing.assert_close(reported["loss_prototype"], prototype.weight * expected)
    assert {f"loss_{name}_stage{i}" for name in ("cls", "box_reg") for i in range(3)} < set(reported)


def test_every_parameter_gets_a_gradient_with_and_without_nuclei(cascade_cfg, make_input):
    cfg = target_cfg(cascade_cfg)
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = ["PrototypeBranch", "EvidentialBranch"]
    cfg.OSAL.EVIDENCE.MODE = "branch"
    model = build_model(cfg).train()
    for batch in ([make_input(0, 1, 2)], [make_input()], [make_input(2), make_input()]):
        model.zero_grad()
        with EventStorage():
            losses = model(batch)
        assert "loss_evidence" in losses and all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("policy", ["drop", "ignore"])
def test_unknown_nuclei_stay_out_of_every_stage_under_ignore(cascade_cfg, make_input, policy):
    cascade_cfg.OSAL.DATA.UNKNOWN_POLICY = policy
    model = build_model(cascade_cfg).train()
    item = make_input(0, 1, K)
    boxes = Boxes(torch.tensor([[4.0, 4, 28, 28], [4, 80, 28, 104], [80, 40, 104, 64]]))
    item["instances"].gt_boxes = boxes
    # Proposals lie on each nucleus and 16 pixels left of the unknown one. The first stage moves all of them 16 pixels
    # to the right, so that other regions come to lie on it.
    start = torch.cat([boxes.tensor, boxes.tensor[2:] - torch.tensor([16.0, 0, 16, 0])])
    for stage, predictor in enumerate(model.target.roi_heads.box_predictor):
        torch.nn.init.zeros_(predictor.bbox_pred.weight)
        with torch.no_grad():
            predictor.bbox_pred.bias[0] = 10 * 16 / 24 if stage == 0 else 0

    def place(module, args, out):
        for proposals in out[0]:
            proposals.proposal_boxes = Boxes(start[torch.arange(len(proposals)) % 4])
        return out

    model.target.proposal_generator.register_forward_hook(place)
    losses = spy(model.target.roi_heads.box_predictor, "losses")
    with EventStorage():
        model([item])
    for calls in losses:
        (_, (regions,)), _ = calls[0]
        on_unknown = pairwise_iou(regions.proposal_boxes, boxes[2])[:, 0] >= 0.5
        assert len(regions) > 5 and bool(on_unknown.any()) == (policy == "drop")
        assert (regions.gt_classes[on_unknown] == K).all()


def test_two_cascades_train_and_serve_osal_nd(cascade_cfg, make_input):
    cascade_cfg.OSAL.AUXILIARY.TEMPERATURE = 0.5
    model = build_model(cascade_cfg).train()
    check_needs(get_strategy("osal_nd")(), model)
    predictors = box_predictors(model.auxiliary.roi_heads)
    assert [(p.nms, p.temperature) for p in predictors] == [("class_agnostic", 0.5)] * 3
    assert [p.nms for p in box_predictors(model.target.roi_heads)] == ["per_class"] * 3
    optimizer = build_osal_optimizer(cascade_cfg, model)
    with EventStorage():
        for seed in range(2):
            loss = sum(model([make_input(0, 1, 2, K, seed=seed), make_input(seed=9)]).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.isfinite(loss) and model.auxiliary.roi_heads.box_branches["prototype"].initialised.all()
    with torch.no_grad():
        found = model.eval().auxiliary([make_input(0, seed=4)])[0]["instances"]
    overlap = pairwise_iou(found.pred_boxes, found.pred_boxes).fill_diagonal_(0)
    assert len(found) > 1 and overlap.max() <= 0.5 + 1e-5 and found.dist_known.isfinite().all()


def test_plain_cascades_as_auxiliary_are_refused_where_they_cannot_serve(cascade_cfg):
    cascade_cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "CascadeROIHeads"
    with pytest.raises(ConfigError, match="class_agnostic' needs open-set ROI heads.*not CascadeROIHeads"):
        build_model(cascade_cfg)


def test_the_evidential_classifier_stands_in_every_stage(cascade_cfg, make_input):
    cfg = target_cfg(cascade_cfg)
    cfg.OSAL.EVIDENCE.MODE = "edl"
    model = build_model(cfg)
    kinds = {type(p).__name__ for p in box_predictors(model.roi_heads)}
    weights = [p.box2box_transform.weights for p in box_predictors(model.roi_heads)]
    assert kinds == {"EvidentialOutputLayers"}
    assert weights == [tuple(w) for w in cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS]
    with torch.no_grad():
        found = model.eval()([make_input(0)])[0]["instances"]
    evidence = torch.nn.functional.softplus(found.logits[:, :K])
    torch.testing.assert_close(found.cls_uncertainty, K / (evidence + 1).sum(dim=1))


def test_features_of_annotated_nuclei_are_those_of_the_last_stage(detector, make_input):
    item = make_input(0, 2, seed=7)
    ((features, classes),) = ground_truth_features(detector, [item])
    heads = detector.roi_heads
    with torch.no_grad():
        maps = detector.backbone(detector.preprocess_image([item]).tensor)
        pooled = heads.box_pooler([maps[f] for f in heads.box_in_features], [item["instances"].gt_boxes])
        expected = [head(pooled) for head in heads.box_head]
    assert torch.equal(features, expected[-1]) and not torch.equal(features, expected[0])
    assert classes.tolist() == [0, 2]


@pytest.mark.parametrize("nothing", ["proposals", "detections"])
def test_nothing_found_gives_empty_fields(detector, make_input, nothing):
    heads = detector.eval().roi_heads
    assert isinstance(heads, OpenSetBoxHeads) and isinstance(heads, CascadeROIHeads)
    heads.keep_roi_features = True
    if nothing == "detections":
        heads.box_predictor[-1].test_score_thresh = 1.0
    images = detector.preprocess_image([make_input()])
    with torch.no_grad():
        maps = detector.backbone(images.tensor)
        proposals, _ = detector.proposal_generator(images, maps)
        if nothing == "proposals":
            proposals = [p[:0] for p in proposals]
        found = heads(images, maps, proposals)[0][0]
    assert len(found) == 0
    assert {len(found.get(name)) for name in heads.detection_fields} == {0}
    assert found.logits.shape == (0, K + 1) and found.roi_feature.shape == (0, 32)
