"""The model zoo's own configs with nothing but the ROI heads exchanged, made small enough for a CPU."""

import copy
import re
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads, build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

from osal_detectron2 import add_osal_config
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.engine.resolve import with_strategy
from osal_detectron2.modeling.meta_arch import check_architecture
from osal_detectron2.modeling.roi_heads import OpenSetStandardROIHeads, box_predictors
from osal_detectron2.scoring.pool import check_needs
from osal_detectron2.strategies import get_strategy

SIZE = 64
ZOO = {
    "faster_fpn": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "faster_c4": "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml",
    "faster_dc5": "COCO-Detection/faster_rcnn_R_50_DC5_3x.yaml",
    "mask_fpn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "mask_c4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml",
    "cascade_mask": "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
    "keypoint_fpn": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml",
}
RETINANET = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
BOTH = ["PrototypeBranch", "EvidentialBranch"]


def zoo_cfg(path):
    """The zoo's config on a ResNet-50 of a few channels, with few regions. NAME of the ROI heads is the zoo's."""
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file(path))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.NORM = "LN"  # frozen BatchNorm lets the activations of random weights explode
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 24
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 8
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (8,)
    cfg.TEST.DETECTIONS_PER_IMAGE = 15
    cfg.OSAL.PROTOTYPE.WARMUP_ITERS, cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 1, 0.0
    return cfg


def make_tile(nuclei, seed):
    """A model input with masks and keypoints for every nucleus."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(nuclei, 2, generator=generator) * (SIZE - 33)
    instances = Instances((SIZE, SIZE))
    instances.gt_boxes = Boxes(torch.cat([corners, corners + 32], dim=1))
    instances.gt_classes = torch.zeros(nuclei, dtype=torch.long)
    instances.gt_masks = BitMasks(torch.ones(nuclei, SIZE, SIZE, dtype=torch.bool))
    visible = torch.full((nuclei, 17, 1), 2.0)
    instances.gt_keypoints = Keypoints(torch.cat([corners[:, None].repeat(1, 17, 1) + 16, visible], dim=2))
    image = torch.rand(3, SIZE, SIZE, generator=generator) * 255
    return {"image": image, "instances": instances, "height": SIZE, "width": SIZE}


def iou(a, b):
    """Of two boxes, by arithmetic."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return common / (sum(areas) - common)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")  # Detectron2's keypoint log
@pytest.mark.parametrize("name", ZOO)
def test_a_zoo_config_with_our_heads_trains_and_its_detections_carry_the_fields(name):
    cfg = zoo_cfg(ZOO[name])
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.BOX_BRANCHES = f"OpenSet{cfg.MODEL.ROI_HEADS.NAME}", BOTH
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with EventStorage():
        for batch in ([make_tile(3, 0), make_tile(0, 1)], [make_tile(0, 2)]):
            losses = model(batch)
            assert all(torch.isfinite(v) for v in losses.values())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            assert "loss_prototype" in losses
            assert ("loss_mask" in losses) == cfg.MODEL.MASK_ON
            assert ("loss_keypoint" in losses) == cfg.MODEL.KEYPOINT_ON

    seen = {}
    heads = model.eval().roi_heads
    last = box_predictors(heads)[-1]
    handles = [
        model.proposal_generator.register_forward_hook(lambda m, args, out: seen.update(proposals=out[0])),
        last.register_forward_hook(lambda m, args, out: seen.update(features=args[0], logits=out[0])),
    ]
    heads.keep_roi_features = True
    tiles = [make_tile(0, 5), make_tile(2, 6)]
    with torch.no_grad():
        found = model.inference(tiles, do_postprocess=False)
        for handle in handles:
            handle.remove()
        scaled = [output["instances"] for output in model(tiles)]
    sizes = [len(p) for p in seen["proposals"]]
    features = seen["features"].flatten(start_dim=1).split(sizes)
    for one, after, proposals, rows, logits in zip(
        found, scaled, seen["proposals"], features, seen["logits"].split(sizes)
    ):
        assert len(one) > 5 and len(after) > 5
        assert set(heads.detection_fields) == {
            *("loc_tightness", "logits", "roi_feature", "cls_uncertainty", "dist_known", "dist_unknown")
        }
        for field in heads.detection_fields:
            assert len(one.get(field)) == len(one) and len(after.get(field)) == len(after)
        assert one.has("pred_masks") == cfg.MODEL.MASK_ON and after.has("pred_masks") == cfg.MODEL.MASK_ON
        assert after.has("pred_keypoints") == cfg.MODEL.KEYPOINT_ON
        assert one.logits.shape == (len(one), cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1)
        for i in range(len(one)):
            row = (rows - one.roi_feature[i]).abs().sum(dim=1).argmin()
            assert torch.equal(rows[row], one.roi_feature[i]) and torch.equal(logits[row], one.logits[i])
            expected = iou(one.pred_boxes.tensor[i].tolist(), proposals.proposal_boxes.tensor[row].tolist())
            assert one.loc_tightness[i].item() == pytest.approx(expected, abs=1e-4)
        for branch in heads.box_branches.values():
            for field, values in branch.fields(one.roi_feature, one.logits).items():
                torch.testing.assert_close(one.get(field), values)


@pytest.mark.parametrize("name", ZOO)
def test_evidential_heads_train_and_detect_as_the_plain_ones_masks_and_keypoints_included(name):
    cfg = zoo_cfg(ZOO[name])
    torch.manual_seed(0)
    plain = build_model(cfg)
    cfg.MODEL.ROI_HEADS.NAME = f"OpenSet{cfg.MODEL.ROI_HEADS.NAME}"
    ours = build_model(cfg)
    assert list(ours.state_dict()) == list(plain.state_dict())
    ours.load_state_dict(plain.state_dict())
    losses, gradients, detections = [], [], []
    for model in (plain.train(), ours.train()):
        torch.manual_seed(1)
        with EventStorage():
            losses.append(model([make_tile(3, 0), make_tile(0, 1)]))
        sum(losses[-1].values()).backward()
        gradients.append({key: p.grad for key, p in model.named_parameters()})
        with torch.no_grad():
            detections.append(model.eval().inference([make_tile(0, 5)], do_postprocess=False)[0])
    assert losses[0] == losses[1] and losses[0].keys() == losses[1].keys()
    assert all(torch.equal(g, gradients[1][key]) for key, g in gradients[0].items())
    assert len(detections[0]) > 5
    for field, values in detections[0].get_fields().items():
        both = (values, detections[1].get(field))
        assert torch.equal(*(v.tensor if isinstance(v, Boxes) else v for v in both)), field


class HeadsOfAProject(StandardROIHeads):
    """Somebody's ROI heads, with a loss of their own."""

    def _forward_mask(self, features, instances):
        return {"loss_of_the_project": features["p2"].sum() * 0} if self.training else instances


def test_ours_mix_with_the_heads_of_a_project():
    class MixedROIHeads(OpenSetStandardROIHeads, HeadsOfAProject):
        pass

    cfg = zoo_cfg(ZOO["faster_fpn"])
    if "MixedROIHeads" not in ROI_HEADS_REGISTRY:
        ROI_HEADS_REGISTRY.register(MixedROIHeads)
    cfg.MODEL.ROI_HEADS.NAME = "MixedROIHeads"
    model = build_model(cfg).train()
    with EventStorage():
        assert "loss_of_the_project" in model([make_tile(2, 0)])
    with torch.no_grad():
        found = model.eval()([make_tile(2, 0)])[0]["instances"]
    assert len(found) == len(found.cls_uncertainty) == len(found.loc_tightness) > 5


def test_the_page_on_plugging_in_a_head_runs_as_it_is_written(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs/plug_in_head.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["found"].has("cls_uncertainty") and "MixedROIHeads" not in page
    cfg = zoo_cfg(ZOO["faster_fpn"])
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = "MyOpenSetROIHeads", 16
    heads = build_model(cfg).roi_heads
    assert heads.mine.out_features == 3 and "cls_uncertainty" in heads.detection_fields
    table = set(re.findall(r"`(\w+ROIHeads)`", page)) - {"MyROIHeads", "MyOpenSetROIHeads"}
    assert {"OpenSetStandardROIHeads", "OpenSetRes5ROIHeads", "OpenSetCascadeROIHeads"} < table
    assert all(name in ROI_HEADS_REGISTRY for name in table)
    for zoo in ("faster_fpn", "faster_c4", "cascade_mask"):
        check_area_branch(zoo_cfg(ZOO[zoo]))


def check_area_branch(cfg):
    """The branch of the page learns in these heads, with and without nuclei, and its field is on the detections."""
    cfg.MODEL.ROI_HEADS.NAME = f"OpenSet{cfg.MODEL.ROI_HEADS.NAME}"
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = [*BOTH, "AreaBranch"]
    cfg.MODEL.MASK_ON = False
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD(model.roi_heads.box_branches["area"].parameters(), lr=0.05)
    history = []
    with EventStorage():
        for tile in [make_tile(0, 1), *[make_tile(3, 0)] * 6]:
            history.append(model([tile])["loss_area"])
            optimizer.zero_grad()
            history[-1].backward()
            optimizer.step()
    assert history[0] == 0 and 0 < history[-1] < history[1]
    with torch.no_grad():
        (found,) = model.eval()([make_tile(2, 3)])
    assert len(found["instances"]) == len(found["instances"].area) > 5
    for names, match in (
        (["AreaBranch", "AreaBranch"], "two of them are called 'area'"),
        (["MyBranch"], "no box branch 'MyBranch'; choose of .*EvidentialBranch.* import the file"),
    ):
        cfg.MODEL.ROI_HEADS.BOX_BRANCHES = names
        with pytest.raises(ConfigError, match=match):
            build_model(cfg)


@pytest.mark.parametrize("name", ["faster_fpn", "mask_c4", "cascade_mask"])
def test_checkpoints_go_both_ways_with_only_the_branches_reported(name, tmp_path):
    cfg = zoo_cfg(ZOO[name])
    plain = build_model(cfg)
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.BOX_BRANCHES = f"OpenSet{cfg.MODEL.ROI_HEADS.NAME}", BOTH
    ours = build_model(cfg)
    new = {key for key in ours.state_dict() if "box_branches" in key}
    assert new and set(ours.state_dict()) - set(plain.state_dict()) == new
    for source, model in ((plain, ours), (ours, copy.deepcopy(plain))):
        DetectionCheckpointer(source, str(tmp_path)).save("model")
        found = DetectionCheckpointer(model)._load_model(torch.load(tmp_path / "model.pth"))
        assert found.incorrect_shapes == []
        assert set(found.missing_keys) == (new if model is ours else set())
        assert set(found.unexpected_keys) == (set() if model is ours else new)
        for key, value in source.state_dict().items():
            assert key in new or torch.equal(value, model.state_dict()[key])


@pytest.mark.parametrize("path", ZOO.values(), ids=ZOO)
def test_zoo_detectors_with_roi_heads_can_be_trained_in_rounds_on_their_boxes(path):
    cfg = zoo_cfg(path)
    for key in ("MASK_ON", "KEYPOINT_ON"):
        if cfg.MODEL[key]:
            with pytest.raises(ConfigError, match=f"MODEL.{key} is True.*trains on boxes.*set it to False$"):
                check_architecture(cfg)
            cfg.MODEL[key] = False
    check_architecture(cfg)


@pytest.mark.parametrize("strategy", ["random", "osal_nd", "lfosa"])
@pytest.mark.parametrize("architecture", ["", "OSALRCNN", "ProposalNetwork", "SemanticSegmentor"])
def test_a_detector_without_roi_heads_is_refused_before_anything_is_built(strategy, architecture):
    cfg = zoo_cfg(RETINANET)
    cfg.MODEL.META_ARCHITECTURE = architecture or cfg.MODEL.META_ARCHITECTURE
    with pytest.raises(ConfigError, match="has no ROI heads.*start from a Faster, Mask, Cascade"):
        with_strategy(cfg, get_strategy(strategy)())


def test_a_model_without_roi_heads_is_refused_by_the_hook():
    cfg = zoo_cfg(RETINANET)
    cfg.MODEL.RETINANET.NUM_CLASSES, cfg.MODEL.RETINANET.NUM_CONVS = 3, 1
    model = build_model(cfg)
    check_needs(get_strategy("random")(), model)
    with pytest.raises(
        ConfigError, match="utss needs ROI heads in the target detector, and RetinaNet has none"
    ):
        check_needs(get_strategy("utss")(), model)
