"""Does a detector configuration suit the nuclei of a data set? Only `detector_settings` needs Detectron2."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.data.coco_file import INFO, WARNING, Finding

DEFAULT_DETECTION_LIMIT = 100  # of TEST.DETECTIONS_PER_IMAGE and of COCOeval's maxDets alike
POOR_ANCHOR_IOU = 0.5
POOR_ANCHOR_SHARE = 0.1


@dataclass(frozen=True)
class DetectorSettings:
    """What of a Detectron2 config bears on a data set. Sizes in pixels; `min_size` 0: no resizing."""

    detection_limit: int = DEFAULT_DETECTION_LIMIT
    anchor_sizes: tuple[float, ...] = ()
    anchor_ratios: tuple[float, ...] = ()
    min_size: int = 0
    max_size: int = 0


def detection_limit_findings(data: dict, json_file: str, limit: int) -> list[Finding]:
    """Images with more nuclei than the detector may report."""
    count = Counter(entry["image_id"] for entry in data["annotations"] if not entry.get("iscrowd", 0))
    over = [image for image in data["images"] if count[image["id"]] > limit]
    if not over:
        return []
    most = max(over, key=lambda image: count[image["id"]])
    message = (
        f"{json_file}: {len(over)} images have more than {limit} boxes, most {most['file_name']} with "
        f"{count[most['id']]}"
    )
    remedy = f"set TEST.DETECTIONS_PER_IMAGE to {-(-3 * count[most['id']] // 2)} or cut smaller tiles"
    return [Finding(WARNING, "detection-limit", message, remedy)]


def box_sizes_after_resize(data: dict, min_size: int, max_size: int) -> np.ndarray:
    """(n, 2) widths and heights of the boxes as the detector sees them: Detectron2 resizes the shorter side
    to `min_size` pixels (0: not at all) unless the longer one would pass `max_size`."""
    scale = {}
    for image in data["images"]:
        short, long = sorted((image["width"], image["height"]))
        factor = min_size / short if min_size else 1.0
        scale[image["id"]] = min(factor, max_size / long) if min_size and max_size else factor
    sizes = [
        np.array(entry["bbox"][2:], dtype=float) * scale[entry["image_id"]] for entry in data["annotations"]
    ]
    return np.array(sizes).reshape(-1, 2)


def best_anchor_iou(sizes: np.ndarray, anchor_sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """(n,) IoU of each box (width, height) with the best anchor, both centred. An anchor of size s and ratio
    r = height / width has area s^2."""
    area, ratio = np.meshgrid(np.square(np.array(anchor_sizes, dtype=float)), np.array(ratios, dtype=float))
    width = np.sqrt(area / ratio).ravel()
    height = width * ratio.ravel()
    inner = np.minimum(sizes[:, :1], width) * np.minimum(sizes[:, 1:], height)
    union = (sizes[:, 0] * sizes[:, 1])[:, None] + width * height - inner
    return (inner / union).max(axis=1)


def anchor_findings(data: dict, json_file: str, settings: DetectorSettings) -> list[Finding]:
    """Boxes to which no anchor comes close in size; nothing to say without anchors in `settings`."""
    sizes = box_sizes_after_resize(data, settings.min_size, settings.max_size)
    if not settings.anchor_sizes or not len(sizes):
        return []
    poor = float(
        (best_anchor_iou(sizes, settings.anchor_sizes, settings.anchor_ratios) < POOR_ANCHOR_IOU).mean()
    )
    side = np.percentile(np.sqrt(sizes.prod(axis=1)), [5, 50, 95])
    message = (
        f"{json_file}: {100 * poor:.0f} % of the boxes meet no anchor of IoU {POOR_ANCHOR_IOU} by size; "
        f"resized boxes have side {side[1]:.0f} (5-95 %: {side[0]:.0f}-{side[2]:.0f}) px, the anchors are "
        f"{', '.join(f'{size:g}' for size in sorted(set(settings.anchor_sizes)))}"
    )
    if poor <= POOR_ANCHOR_SHARE:
        return [Finding(INFO, "anchor-fit", message, "no change needed")]
    remedy = "change MODEL.ANCHOR_GENERATOR.SIZES or INPUT.MIN_SIZE_TEST (and _TRAIN)"
    return [Finding(WARNING, "anchor-fit", message, remedy)]


def detector_settings(config_file: str) -> DetectorSettings:
    """The settings of a Detectron2 config file (with the keys of osal_detectron2). Raises ConfigError."""
    from osal_detectron2.requirement import require_detectron2

    try:
        require_detectron2()
    except ImportError as error:
        raise ConfigError(f"--config-file cannot be read; leave it out, or:\n{error}") from None
    from detectron2.config import get_cfg

    from osal_detectron2.config import add_osal_config
    from osal_detectron2.merge_config import merge_file

    cfg = get_cfg()
    add_osal_config(cfg)
    try:
        merge_file(cfg, config_file)
    except Exception as error:  # yacs and yaml raise many kinds
        reason = " ".join(str(error).split())
        raise ConfigError(f"{config_file}: not a usable config ({reason}); mend it") from None
    anchors = cfg.MODEL.ANCHOR_GENERATOR
    return DetectorSettings(
        detection_limit=cfg.TEST.DETECTIONS_PER_IMAGE,
        anchor_sizes=tuple(size for level in anchors.SIZES for size in np.atleast_1d(level).tolist()),
        anchor_ratios=tuple(ratio for level in anchors.ASPECT_RATIOS for ratio in level),
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
    )
