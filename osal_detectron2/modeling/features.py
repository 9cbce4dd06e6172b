"""Features of given boxes and of whole images, from any Detectron2 R-CNN."""

import torch
from detectron2.evaluation import inference_context
from detectron2.modeling.roi_heads import Res5ROIHeads


def pool_box_features(roi_heads, feature_maps: dict[str, torch.Tensor], boxes: list) -> torch.Tensor:
    """What the box predictor of `roi_heads` sees for `boxes` (list[Boxes], in network-input coordinates).

    Returns:
        (sum of boxes, ...): output of the box head, or mean-pooled res5 of a C4 model.
    """
    maps = [feature_maps[f] for f in roi_heads.in_features]
    if isinstance(roi_heads, Res5ROIHeads):
        return roi_heads._shared_roi_transform(maps, boxes).mean(dim=[2, 3])
    return roi_heads.box_head(roi_heads.box_pooler(maps, boxes))


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


@torch.no_grad()
def image_features(rcnn, batched_inputs: list[dict]) -> torch.Tensor:
    """Global average of each feature map that the ROI heads read, concatenated: (B, D) float32.

    Padding to the batch's common size takes no part in the average.
    """
    with inference_context(rcnn):
        images = rcnn.preprocess_image(batched_inputs)
        feature_maps = rcnn.backbone(images.tensor)
    strides = {name: shape.stride for name, shape in rcnn.backbone.output_shape().items()}
    rows = []
    for index, (height, width) in enumerate(images.image_sizes):
        means = [
            feature_maps[f][index, :, : -(-height // strides[f]), : -(-width // strides[f])]
            .float()
            .mean(dim=[1, 2])
            for f in rcnn.roi_heads.in_features
        ]
        rows.append(torch.cat(means))
    return torch.stack(rows)
