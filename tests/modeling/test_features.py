import pytest
import torch
from detectron2.modeling import build_model

from osal_detectron2.modeling.features import ground_truth_features, image_features
from osal_detectron2.modeling.meta_arch import target_cfg


@pytest.fixture(params=["toy_cfg", "c4_cfg"])
def detector(request):
    return build_model(target_cfg(request.getfixturevalue(request.param)))


def test_ground_truth_features_are_what_the_box_predictor_sees(detector, make_input):
    detector.train()
    inputs = [make_input(0, 3, seed=1), make_input(seed=2), make_input(1, seed=3)]
    result = ground_truth_features(detector, inputs)
    assert detector.training and [len(f) for f, _ in result] == [2, 0, 1]
    assert [c.tolist() for _, c in result] == [[0, 3], [], [1]]
    dim = detector.roi_heads.box_predictor.cls_score.in_features
    assert all(f.shape[1] == dim and not f.requires_grad for f, _ in result)
    # The box branch on the same boxes, given as proposals, gets the same features.
    seen = []
    hook = detector.roi_heads.box_predictor.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    detector.eval()
    images = detector.preprocess_image(inputs)
    for x in inputs:
        x["instances"].proposal_boxes = x["instances"].gt_boxes
    with torch.no_grad():
        detector.roi_heads(images, detector.backbone(images.tensor), [x["instances"] for x in inputs])
    hook.remove()
    assert torch.allclose(torch.cat([f for f, _ in result]), seen[0].flatten(1), atol=1e-5)


@pytest.mark.parametrize("feature", ["res5", "fpn"])
def test_image_features_do_not_depend_on_the_batch(detector, make_input, feature):
    detector.eval()
    small, large = make_input(seed=1, size=96), make_input(seed=2, size=128)
    both = image_features(detector, [small, large], feature=feature)
    shapes = detector.backbone.output_shape()
    maps = detector.roi_heads.in_features[-1:] if feature == "res5" else detector.roi_heads.in_features
    assert both.shape == (2, sum(shapes[f].channels for f in maps))
    assert torch.allclose(both[1], image_features(detector, [large], feature=feature)[0], atol=1e-5)
    if "p2" in shapes:  # few convolutions: the padding reaches no further than the border
        assert torch.allclose(both[0], image_features(detector, [small], feature=feature)[0], atol=0.05)


def test_res5_is_the_last_map_below_an_fpn(c4_cfg, make_input):
    """Not p5 or p6, which mix it with what the FPN learns for boxes."""
    c4_cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    c4_cfg.MODEL.RESNETS.OUT_FEATURES = c4_cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    c4_cfg.MODEL.FPN.OUT_CHANNELS = 8
    c4_cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    c4_cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    c4_cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    c4_cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    detector = build_model(target_cfg(c4_cfg)).eval()
    inputs = [make_input(seed=1)]
    with torch.no_grad():
        expected = detector.backbone.bottom_up(detector.preprocess_image(inputs).tensor)["res5"]
    assert torch.allclose(image_features(detector, inputs), expected.mean(dim=[2, 3]), atol=1e-6)
    assert image_features(detector, inputs, feature="fpn").shape == (1, 4 * 8)
    with pytest.raises(ValueError, match="p6"):
        image_features(detector, inputs, feature="p6")
