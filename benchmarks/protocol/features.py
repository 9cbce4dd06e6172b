"""Proposals and features of every image, computed once: all that the screening ever sees of the pixels.

Proposals are the detections of a class-agnostic detector ("localiser"), one box a nucleus. Each box, and each annotated
nucleus, is described by ImageNet features of itself and of its surroundings, and by the localiser's own box feature.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import mobilenet_v2
from torchvision.ops import nms, roi_align

from osal_detectron2.core.store import atomic_path
from osal_detectron2.data.windows import tile_starts

from .pool import region_grid

UPSAMPLING = 2  # nuclei are some 18 px wide, ImageNet's objects more
WINDOW, MARGIN = (
    250,
    25,
)  # the localiser was trained on tiles of this side; what lies near a cut edge is left out
SCORE_THRESH, NMS_THRESH = 0.02, 0.5
REGION_SIDES = (250, 125)  # of which there is a feature of the region as well, for coreset
# (index of the MobileNetV2 block, stride, side of the box relative to the nucleus, bins a side)
_PARTS = (
    (3, 4, 1.0, 3),
    (6, 8, 1.0, 2),
    (6, 8, 2.0, 2),
    (13, 16, 1.5, 1),
    (13, 16, 4.0, 1),
    (17, 32, 4.0, 1),
)


class ImageNetFeatures:
    """MobileNetV2 with the weights of `path`, which expects RGB as (x - 128) / 128."""

    def __init__(self, path: str | Path) -> None:
        network = mobilenet_v2()
        network.load_state_dict(torch.load(path, weights_only=True))
        self.blocks = network.features[:18].eval().to(memory_format=torch.channels_last)  # twice as fast

    @torch.no_grad()
    def maps(self, image: np.ndarray) -> dict[int, torch.Tensor]:
        """Maps of an RGB image (H, W, 3), enlarged by UPSAMPLING, by index of the block; -1 is the image itself."""
        x = torch.as_tensor(image).permute(2, 0, 1)[None].float().sub(128).div(128)
        maps = {-1: x}
        x = torch.nn.functional.interpolate(x, scale_factor=UPSAMPLING, mode="bilinear")
        wanted = {index for index, *_ in _PARTS}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in wanted:
                maps[index] = x
        return maps


def box_features(maps: dict[int, torch.Tensor], boxes: np.ndarray) -> np.ndarray:
    """(n, D) float32 for boxes (n, 4) xyxy in pixels of the image: colour, and every part of _PARTS."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    parts = [_pool(maps[-1], boxes, 1.0, 3, 1.0), _pool(maps[-1], boxes, 3.0, 1, 1.0)]
    parts += [_pool(maps[i], boxes, side, bins, UPSAMPLING / stride) for i, stride, side, bins in _PARTS]
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).log()
    return torch.cat([*parts, size, size.sum(1, keepdim=True)], dim=1).numpy()


def region_features(maps: dict[int, torch.Tensor], regions: np.ndarray) -> np.ndarray:
    """(R, 320) means of the last map over regions (R, 4) xyxy."""
    return _pool(maps[17], torch.as_tensor(regions, dtype=torch.float32), 1.0, 1, UPSAMPLING / 32).numpy()


def _pool(feature_map, boxes, side: float, bins: int, scale: float) -> torch.Tensor:
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (side / 2)
    grown = torch.cat([center - half, center + half], dim=1)
    pooled = roi_align(feature_map, [grown], bins, spatial_scale=scale, sampling_ratio=2, aligned=True)
    return pooled.flatten(1)


class Localiser:
    """A run of `osal train` with the one class "nucleus"."""

    def __init__(self, folder: str | Path) -> None:
        from osal_detectron2.deploy.load import load_detector

        rcnn = load_detector(folder).target.eval()
        rcnn.roi_heads.box_predictor.test_score_thresh = SCORE_THRESH
        rcnn.roi_heads.keep_roi_features = True
        self.rcnn = rcnn

    @torch.no_grad()
    def detect(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """boxes (n, 4) xyxy, score, tightness (n,), feature (n, d): one box a nucleus, best score first."""
        found = []
        height, width = image.shape[:2]
        for y0 in tile_starts(height, WINDOW, 2 * MARGIN):
            for x0 in tile_starts(width, WINDOW, 2 * MARGIN):
                instances = self.rcnn([self._input(image, x0, y0)])[0]["instances"]
                boxes = instances.pred_boxes.tensor + torch.tensor([x0, y0, x0, y0])
                center = (boxes[:, :2] + boxes[:, 2:]) / 2
                low = torch.tensor([x0 + MARGIN * (x0 > 0), y0 + MARGIN * (y0 > 0)])
                high = torch.tensor(
                    [
                        x0 + WINDOW - MARGIN * (x0 + WINDOW < width),
                        y0 + WINDOW - MARGIN * (y0 + WINDOW < height),
                    ]
                )
                inside = ((center >= low) & (center <= high)).all(dim=1)
                fields = (boxes, instances.scores, instances.loc_tightness, instances.roi_feature)
                found.append([f[inside] for f in fields])
        boxes, score, tightness, feature = (torch.cat(parts) for parts in zip(*found))
        kept = nms(boxes, score, NMS_THRESH)
        names = ("boxes", "score", "tightness", "feature")
        return {n: f[kept].numpy() for n, f in zip(names, (boxes, score, tightness, feature))}

    @torch.no_grad()
    def features(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(n, d) box features of given boxes (n, 4), each from the window of a grid that has its centre."""
        from detectron2.structures import Boxes

        from osal_detectron2.modeling.features import pool_box_features

        out = np.zeros((len(boxes), self.rcnn.roi_heads.box_predictor.cls_score.in_features), np.float32)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        corner = np.minimum(center // WINDOW * WINDOW, np.array(image.shape[1::-1]) - WINDOW).astype(int)
        for x0, y0 in np.unique(corner, axis=0):
            mine = np.flatnonzero((corner == (x0, y0)).all(axis=1))
            tile = self._input(image, x0, y0)
            maps = self.rcnn.backbone(self.rcnn.preprocess_image([tile]).tensor)
            moved = torch.as_tensor(boxes[mine] - np.array([x0, y0, x0, y0]), dtype=torch.float32)
            out[mine] = pool_box_features(self.rcnn.roi_heads, maps, [Boxes(moved)]).flatten(1).numpy()
        return out

    def _input(self, image, x0, y0) -> dict:
        tile = np.ascontiguousarray(image[y0 : y0 + WINDOW, x0 : x0 + WINDOW])
        return {"image": torch.as_tensor(tile).permute(2, 0, 1), "height": WINDOW, "width": WINDOW}


def cache_image(
    path: Path, image_path: Path, annotations: list[dict], *, imagenet: ImageNetFeatures, localiser: Localiser
) -> None:
    """Write everything about one image as an .npz; `annotations` are COCO's, with `class` as a name."""
    image = np.array(Image.open(image_path).convert("RGB"))
    gt = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
    gt[:, 2:] += gt[:, :2]
    maps, found = imagenet.maps(image), localiser.detect(image)
    arrays = {
        "boxes": found["boxes"],
        "score": found["score"],
        "tightness": found["tightness"],
        "imagenet": box_features(maps, found["boxes"]).astype(np.float16),
        "localiser": found["feature"].astype(np.float16),
        "gt_boxes": gt,
        "gt_class": np.array([a["class"] for a in annotations], dtype="U32"),
        "gt_imagenet": box_features(maps, gt).astype(np.float16),
        "gt_localiser": localiser.features(image, gt).astype(np.float16),
        "size": np.array(image.shape[1::-1]),
    }
    for side in REGION_SIDES:
        regions = region_grid(*image.shape[1::-1], side)
        arrays[f"region_feature_{side}"] = region_features(maps, regions)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
