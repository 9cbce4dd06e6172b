import copy

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

from osal_detectron2.modeling.meta_arch import auxiliary_cfg, target_cfg
from osal_detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY

FIELDS = {"PrototypeBranch": {"dist_known", "dist_unknown"}, "EvidentialBranch": {"cls_uncertainty"}}
ALL_HEADS = [
    (family, branches)
    for family in ("StandardROIHeads", "Res5ROIHeads")
    for branches in (["PrototypeBranch"], ["EvidentialBranch"], list(FIELDS))
]


@pytest.fixture
def detector_cfg(request, toy_cfg):
    """Config of a plain detector with the head under test."""
    family, branches = request.param
    cfg = request.getfixturevalue("c4_cfg") if family == "Res5ROIHeads" else toy_cfg
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.BOX_BRANCHES = f"OpenSet{family}", branches
    cfg.OSAL.PROTOTYPE.WARMUP_ITERS, cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 1, 0.0
    return cfg


def train(model, batches, lr=0.01):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    history = []
    with EventStorage():
        for batch in batches:
            losses = model(batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({k: v.item() for k, v in losses.items()})
    return history


@pytest.mark.parametrize("detector_cfg", ALL_HEADS, indirect=True)
def test_trains_with_and_without_nuclei_and_every_parameter_gets_a_gradient(detector_cfg, make_input):
    detector_cfg.OSAL.EVIDENCE.MODE = "branch"
    model = build_model(detector_cfg)
    model.train()
    for batch in ([make_input(0, 1, 2)], [make_input()], [make_input(2), make_input()]):
        model.zero_grad()
        with EventStorage():
            losses = model(batch)
        assert all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("detector_cfg", ALL_HEADS, indirect=True)
def test_fields_belong_to_the_detections_that_carry_them(detector_cfg, make_input):
    model = build_model(detector_cfg)
    train(model, [[make_input(0, 1, 2, seed=i)] for i in range(3)], lr=0.001)
    model.eval()
    heads = model.roi_heads
    heads.keep_roi_features = True
    inputs = [make_input(seed=5), make_input(seed=6)]
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        maps = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, maps)
        detections, _ = heads(images, maps, proposals)
    for found, proposal in zip(detections, proposals):
        assert len(found) > 20
        assert set(found.get_fields()) == {
            *(field for branch in detector_cfg.MODEL.ROI_HEADS.BOX_BRANCHES for field in FIELDS[branch]),
            *("pred_boxes", "scores", "pred_classes", "loc_tightness", "logits", "roi_feature"),
        }
        assert set(heads.detection_fields) <= set(found.get_fields())
        # Each detection must be explained by one proposal: the one whose features and logits it carries.
        with torch.no_grad():
            logits, deltas = heads.box_predictor(found.roi_feature)
        assert torch.allclose(logits, found.logits, atol=1e-4)
        assert torch.allclose(
            logits.softmax(dim=1)[torch.arange(len(found)), found.pred_classes], found.scores, atol=1e-4
        )
        candidates = heads.box_predictor.box2box_transform.apply_deltas(
            deltas.repeat_interleave(len(proposal), dim=0),
            proposal.proposal_boxes.tensor.repeat(len(found), 1),
        ).reshape(len(found), len(proposal), -1, 4)
        for i in range(len(found)):
            decoded = Boxes(candidates[i, :, found.pred_classes[i]])
            decoded.clip(found.image_size)
            source = (decoded.tensor - found.pred_boxes.tensor[i]).abs().sum(dim=1).argmin()
            expected = pairwise_iou(found.pred_boxes[i], proposal.proposal_boxes[source.item()]).item()
            assert found.loc_tightness[i].item() == pytest.approx(expected, abs=1e-4)
        for branch in heads.box_branches.values():
            with torch.no_grad():
                for name, values in branch.fields(found.roi_feature, found.logits).items():
                    assert torch.allclose(found.get(name), values, atol=1e-4)


@pytest.mark.parametrize("detector_cfg", ALL_HEADS, indirect=True)
def test_fields_pass_through_postprocessing(detector_cfg, make_input):
    model = build_model(detector_cfg).eval()
    with torch.no_grad():
        item = make_input(seed=1)
        raw = model.inference([item], do_postprocess=False)[0]
        item["height"] = item["width"] = 64
        scaled = model([item])[0]["instances"]
    raw = raw[raw.pred_boxes.nonempty()]
    assert len(scaled) == len(raw) > 0
    assert torch.allclose(scaled.pred_boxes.tensor * 2, raw.pred_boxes.tensor, atol=1e-3)
    assert torch.equal(scaled.loc_tightness, raw.loc_tightness)
    assert not scaled.has("roi_feature")


@pytest.mark.parametrize("detector_cfg", ALL_HEADS, indirect=True)
@pytest.mark.parametrize("nothing", ["proposals", "detections"])
def test_nothing_found_gives_empty_fields(detector_cfg, make_input, nothing):
    model = build_model(detector_cfg).eval()
    model.roi_heads.keep_roi_features = True
    if nothing == "detections":
        model.roi_heads.box_predictor.test_score_thresh = 1.0
    images = model.preprocess_image([make_input()])
    with torch.no_grad():
        maps = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, maps)
        if nothing == "proposals":
            proposals = [p[:0] for p in proposals]
        found = model.roi_heads(images, maps, proposals)[0][0]
    assert len(found) == 0
    for name in model.roi_heads.detection_fields:
        assert found.get(name).shape[0] == 0
    assert found.logits.shape == (0, 4) and found.loc_tightness.shape == (0,)
    assert found.roi_feature.shape == (0, model.roi_heads.box_predictor.cls_score.in_features)


@pytest.mark.parametrize("family", ["StandardROIHeads", "Res5ROIHeads"])
@pytest.mark.parametrize("mode", ["posthoc", "branch"])
def test_evidential_detector_learns_exactly_what_the_plain_one_does(
    request, toy_cfg, make_input, family, mode
):
    cfg = request.getfixturevalue("c4_cfg") if family == "Res5ROIHeads" else toy_cfg
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.OSAL.EVIDENCE.MODE = mode
    ours = build_model(cfg)
    cfg.MODEL.ROI_HEADS.NAME = family
    plain = build_model(cfg)
    plain.load_state_dict(ours.state_dict(), strict=False)
    batches = [[make_input(0, 1, 2, seed=i), make_input(seed=9)] for i in range(3)]
    with_evidence, without = train(ours, copy.deepcopy(batches)), train(plain, batches)
    for a, b in zip(with_evidence, without):
        assert {k: v for k, v in a.items() if k != "loss_evidence"} == b
    state = ours.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in plain.state_dict().items())


def test_plain_checkpoint_lacks_only_the_branches(toy_cfg, tmp_path, make_input):
    cfg = toy_cfg
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.OSAL.EVIDENCE.MODE = "branch"
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    plain = build_model(cfg)
    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = ["PrototypeBranch", "EvidentialBranch"]
    ours = build_model(cfg)
    found = DetectionCheckpointer(ours)._load_model(torch.load(tmp_path / "plain.pth"))
    assert found.unexpected_keys == [] and found.incorrect_shapes == []
    assert found.missing_keys and all("box_branches" in key for key in found.missing_keys)
    assert torch.equal(
        ours.roi_heads.box_predictor.cls_score.weight, plain.roi_heads.box_predictor.cls_score.weight
    )


def test_edl_mode_brings_the_evidential_classifier(toy_cfg, make_input):
    cfg = target_cfg(toy_cfg)
    cfg.OSAL.EVIDENCE.MODE = "edl"
    model = build_model(cfg)
    assert type(model.roi_heads.box_predictor).__name__ == "EvidentialOutputLayers"
    assert "loss_evidence" not in train(model, [[make_input(0, 1)]])[0]
    with torch.no_grad():
        found = model.eval()([make_input(0)])[0]["instances"]
    evidence = torch.nn.functional.softplus(found.logits[:, :3])
    assert torch.allclose(found.cls_uncertainty, 3 / (evidence + 1).sum(dim=1))


def test_train_on_predicted_boxes_hands_them_to_later_heads(toy_cfg, make_input):
    cfg = auxiliary_cfg(toy_cfg)
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = True
    model = build_model(cfg)
    with torch.no_grad():
        model.roi_heads.box_predictor.bbox_pred.bias.fill_(5.0)
    model.train()
    item = make_input(0, 1)
    with EventStorage():
        images = model.preprocess_image([item])
        maps = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, maps, [item["instances"]])
        sampled, _ = model.roi_heads(images, maps, proposals, [item["instances"]])
    known = pairwise_iou(sampled[0].proposal_boxes, proposals[0].proposal_boxes).max(dim=1).values
    assert not sampled[0].proposal_boxes.tensor.requires_grad and (known < 0.999).all()


def test_two_empty_boxes_have_no_tightness(toy_cfg):
    heads = ROI_HEADS_REGISTRY.get("OpenSetStandardROIHeads")
    model = build_model(target_cfg(toy_cfg)).eval()
    assert isinstance(model.roi_heads, heads)
    point = Instances((128, 128))
    point.proposal_boxes = Boxes(torch.tensor([[128.0, 128.0, 128.0, 128.0]]))
    point.objectness_logits = torch.zeros(1)
    maps = model.backbone(torch.zeros(1, 3, 128, 128))
    with torch.no_grad():
        found = model.roi_heads(None, maps, [point])[0][0]
    assert len(found) > 0 and found.loc_tightness.tolist() == [0.0] * len(found)
