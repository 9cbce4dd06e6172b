"""A commented config for a data set and this machine: `proposed_settings` decides, `config_text` writes YAML.

Only the look at weights and device needs torch.
"""

import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.data.images import image_size, images_below
from osal_detectron2.data.proposal import (
    GPU_SHORT_SIDE,
    TYPICAL_SIDE,
    Setting,
    anchor_sizes,
    box_sides,
    budget,
    detection_limit,
    input_size,
    known_per_tile,
    short_side,
    strategy,
    unknown_share,
)

_COMMON = ("resnet50", "resnet18", "resnet34", "resnet101", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0",
           "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "convnext_tiny", "densenet121")  # fmt: skip
_IMAGENET = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # torchvision's, on the scale 0 to 255


def coco_of_folder(folder: str, classes: Sequence[str]) -> dict:
    """COCO data of the images in `folder` and below, unlabelled, with `classes` for those who label.

    Raises DataError where there is none, or one cannot be read.
    """
    images = []
    for number, path in enumerate(images_below(folder), start=1):
        width, height = image_size(path)
        name = path.relative_to(folder).as_posix()
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": [], "categories": categories}


def proposed_settings(
    train: dict,
    test: dict | None,
    known: Sequence[str],
    *,
    bases: Path,
    device: str,
    weights: str,
    network: str,
    people: bool,
    nucleus_side: float | None,
    image_root: str,
) -> list[Setting]:
    """Every key but those of the data, in the order of the file.

    bases: folder of Base-OSAL-*.yaml. device: "cuda" or "cpu". weights: "" or a file, of torchvision's `network` ("":
    found out) or a checkpoint for the R-50 of Detectron2. nucleus_side: pixels, where no box tells.
    """
    small = device == "cpu"
    base, why = "Base-OSAL-R50-FPN.yaml", "The detectors of the paper, for a GPU."
    if small:
        base = "Base-OSAL-small.yaml"
        why = "Small detectors, for a machine without a GPU. All that is not set here is there."
    settings = [Setting("_BASE_", str(bases / base), why)]
    settings.append(Setting("MODEL.DEVICE", device, "Without a GPU: small." if small else "With a GPU."))
    settings += _backbone(weights, network, small=small, train=train, image_root=image_root)
    sides, guess = box_sides(train), ""
    if not len(sides):
        side = nucleus_side or TYPICAL_SIDE
        sides = side * np.array([[0.6, 0.6], [0.8, 0.8], [1.0, 1.0], [1.3, 1.3], [1.8, 1.8]])
        guess = f" No box tells; a nucleus of {side:.0f} px is assumed (--nucleus-size)."
    tile, size = short_side(train), GPU_SHORT_SIDE  # enlarged: nuclei then meet the levels of the FPN
    if small:
        size, why = input_size(sides, tile)
        settings.append(Setting("INPUT.MIN_SIZE_TRAIN", [size], why + guess))
        settings.append(Setting("INPUT.MIN_SIZE_TEST", size, "As in training."))
    anchors, why = anchor_sizes(sides * (size / tile if size else 1.0))
    limit, crowd = detection_limit(train, *([test] if test else []))
    settings.append(Setting("MODEL.ANCHOR_GENERATOR.SIZES", anchors, why + guess))
    settings.append(Setting("TEST.DETECTIONS_PER_IMAGE", limit, crowd))
    rule = strategy(unknown_share(train, known))
    settings.append(rule)
    if small and rule.value != "random":
        why = (
            "One backbone for both detectors: a sixth less work, and better after the first tiles on CoNSeP."
        )
        settings.append(Setting("OSAL.AUXILIARY.BACKBONE", "shared", why))
    settings += budget(
        len(train["images"]), nuclei_per_tile=known_per_tile(train), small=small, people=people
    )
    if small:
        why = "A round of one to two minutes on two cores. More is better where there is time: 500 and above."
        settings.append(Setting("OSAL.SCHEDULE.MIN_ITERS", 120, why))
    oracle, why = "simulated", "The labels of the JSON play the annotator."
    if people:
        oracle, why = "human", "People label: the run stops with a batch for them."
    return [*settings, Setting("OSAL.ORACLE.NAME", oracle, why)]


def _backbone(weights: str, network: str, *, small: bool, train: dict, image_root: str) -> list[Setting]:
    body, own = "MODEL.BACKBONE.", "MODEL.TORCHVISION."
    if weights and (weights.endswith(".pkl") or "://" in weights):
        if small:
            raise ConfigError(
                f"--weights {weights}: is for Detectron2's R-50, which wants a GPU; give a file of torchvision"
            )
        return [Setting("MODEL.WEIGHTS", weights, "As given.")]
    if weights:
        name, state = identify(weights, network)
        mean, std, why = _pixels_of(state)
        return [
            Setting(body + "NAME", "build_torchvision_fpn_backbone", "The weights are those of torchvision."),
            Setting(body + "FREEZE_AT", 2, "The first two stages stay as they are: edges and colours."),
            Setting("MODEL.WEIGHTS", "", "The backbone has its own."),
            Setting(own + "NAME", name, "The network of the weights."),
            Setting(own + "WEIGHTS", os.path.abspath(weights), "As given."),
            Setting(own + "NORM", "frozen", "A batch of four is too small to learn statistics from."),
            Setting("MODEL.FPN.NORM", "GN", "With frozen norms below it: mAP50 45 on CoNSeP, 36 without."),
            Setting("MODEL.PIXEL_MEAN", mean, why),
            Setting("MODEL.PIXEL_STD", std, "The same."),
            Setting("INPUT.FORMAT", "RGB", "As torchvision's networks read images."),
        ]
    if small:
        mean, std, number = pixel_statistics(train, image_root)
        why = "Small enough to learn from random weights in minutes (--weights)."
        return [
            Setting(own + "NAME", "shufflenet_v2_x0_5", why),
            Setting(own + "NORM", "BN", "Random weights need a norm that is trained."),
            Setting("MODEL.PIXEL_MEAN", mean, f"Of {number} tiles."),
            Setting("MODEL.PIXEL_STD", std, "The same."),
        ]
    why = "Downloaded at the first start; without a network give --weights, a file."
    return [Setting("MODEL.WEIGHTS", "detectron2://ImageNetPretrained/MSRA/R-50.pkl", why)]


def identify(weights: str, network: str = "") -> tuple[str, dict]:
    """(name in torchvision.models, state dict) of a file with weights. Raises ConfigError where none fits."""
    import torchvision

    from ..modeling.backbones import build_torchvision_network
    from ..modeling.weights_file import read_weights

    state = read_weights(weights, key="--weights")
    stem = os.path.basename(weights).lower()
    named = sorted((n for n in torchvision.models.list_models() if stem.startswith(n)), key=len, reverse=True)
    for name in [network] if network else dict.fromkeys([*named[:1], *_COMMON]):
        try:
            build_torchvision_network(name, weights=weights)
        except ConfigError:
            if network:
                raise
            continue
        return name, state
    raise ConfigError(
        f"--weights {weights}: fits none of {', '.join(_COMMON)}; name its network with --network"
    )


def _pixels_of(state: dict) -> tuple[list[float], list[float], str]:
    means = [value for key, value in state.items() if key.endswith("running_mean")]
    if means and all(not value.any() for value in means):
        # How networks come out of TensorFlow Lite, which reads (x - 128) / 128.
        return [128.0] * 3, [128.0] * 3, "The norms of these weights are folded: they expect (x - 128) / 128."
    return *_IMAGENET, "What torchvision's networks were trained with."


def pixel_statistics(data: dict, image_root: str, *, tiles: int = 32) -> tuple[list[float], list[float], int]:
    """(mean, standard deviation) of each channel, RGB, 0 to 255, and of how many tiles, spread over the set.

    Raises DataError for an image that cannot be read.
    """
    chosen = data["images"][:: max(1, len(data["images"]) // tiles)][:tiles]
    values = []
    for image in chosen:
        path = os.path.join(image_root, image["file_name"])
        try:
            with Image.open(path) as picture:
                values.append(np.asarray(picture.convert("RGB").resize((64, 64))).reshape(-1, 3))
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror or error}); check the image root"
            ) from None
    pixels = np.concatenate(values).astype(float)
    mean, std = pixels.mean(axis=0), np.maximum(pixels.std(axis=0), 1)
    return mean.round(0).tolist(), std.round(0).tolist(), len(chosen)


def config_text(settings: Sequence[Setting], header: str) -> str:
    """The settings as YAML, each with its reason above it, under the comment `header`."""
    tree: dict = {}
    for setting in settings:
        *nodes, last = setting.key.split(".")
        place = tree
        for node in nodes:
            place = place.setdefault(node, {})
        place[last] = setting
    return "\n".join([*_comment(header, ""), *_lines(tree, "")]) + "\n"


def _lines(tree: dict, indent: str) -> list[str]:
    lines = []
    for name, value in tree.items():
        if isinstance(value, Setting):
            lines += _comment(value.why, indent)
            lines.append(f"{indent}{name}: {json.dumps(value.value, ensure_ascii=False)}")
        else:
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
    return lines


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
