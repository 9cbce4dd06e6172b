"""Features of given boxes and of whole images, from any Detectron2 R-CNN."""

from collections.abc import Sequence

import torch
from detectron2.evaluation import inference_context
from detectron2.modeling.roi_heads import Res5ROIHeads
from torch import nn


def pool_box_features(roi_heads, feature_maps: dict[str, torch.Tensor], boxes: list) -> torch.Tensor:
    """What the box predictor of `roi_heads` sees for `boxes` (list[Boxes], in network-input coordinates).

    Returns:
        (sum of boxes, ...): output of the box head (of a cascade: the last one), or mean-pooled res5 of a C4 model.
    """
    maps = [feature_maps[f] for f in roi_heads.in_features]
    if isinstance(roi_heads, Res5ROIHeads):
        return roi_heads._shared_roi_transform(maps, boxes).mean(dim=[2, 3])
    head = roi_heads.box_head
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    return head(roi_heads.box_pooler(maps, boxes))


@torch.no_grad()
def ground_truth_features(rcnn, batched_inputs: list[dict]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Box features of the annotated nuclei of each image, in inference mode.

    Args:
        rcnn: a `GeneralizedRCNN`.
        batched_inputs: model inputs with `instances` (`gt_boxes`, `gt_classes`).

    Returns:
        For each image float32 features (n, d) and the gt_classes (n,) as given, on the model's device.
    """
    with inference_context(rcnn):
        instances = [x["instances"].to(rcnn.device) for x in batched_inputs]
        feature_maps = rcnn.backbone(rcnn.preprocess_image(batched_inputs).tensor)
        features = pool_box_features(rcnn.roi_heads, feature_maps, [i.gt_boxes for i in instances])
    parts = features.flatten(start_dim=1).float().split([len(i) for i in instances])
    return [(part, i.gt_classes) for part, i in zip(parts, instances)]


def mean_over_image(feature_map: torch.Tensor, sizes: Sequence[tuple[int, int]], stride: int) -> torch.Tensor:
    """Means (B, C) of `feature_map` (B, C, h, w), each over the part that the image covers, not its padding.

    `sizes`: (height, width) of each image in pixels.
    """
    return torch.stack(
        [
            one[:, : -(-height // stride), : -(-width // stride)].float().mean(dim=[1, 2])
            for one, (height, width) in zip(feature_map, sizes)
        ]
    )


@torch.no_grad()
def image_features(rcnn, batched_inputs: list[dict], *, feature: str = "res5") -> torch.Tensor:
    """Global averages of feature maps of whole images: (B, D) float32.

    Padding to the batch's common size takes no part in the average.

    Args:
        feature: "res5" the last map of the network below an FPN, or, without an FPN, the last map that the ROI heads
            read (res4 of a C4 model, whose res5 works on boxes only); "fpn" every map that the ROI heads read,
            concatenated.

    Raises:
        ValueError: another `feature`.
    """
    if feature not in ("res5", "fpn"):
        raise ValueError(f"feature {feature!r} is not one of res5, fpn")
    below_fpn = feature == "res5" and hasattr(rcnn.backbone, "bottom_up")
    backbone = rcnn.backbone.bottom_up if below_fpn else rcnn.backbone
    strides = {name: shape.stride for name, shape in backbone.output_shape().items()}
    read = list(strides) if below_fpn else list(rcnn.roi_heads.in_features)
    names = [max(read, key=strides.get)] if feature == "res5" else read
    with inference_context(rcnn):
        images = rcnn.preprocess_image(batched_inputs)
        feature_maps = backbone(images.tensor)
    return torch.cat([mean_over_image(feature_maps[f], images.image_sizes, strides[f]) for f in names], dim=1)
