"""`osal data config`: a commented config for your tiles and this machine: detector, input size, anchors, budget."""

import argparse
import json
import os
from pathlib import Path

from ..core.errors import ConfigError, OutputError
from ..core.shipped import CONFIGS
from ..core.spelling import spelled

EXAMPLE = """examples:
  osal data config --json tiles/train.json --image-root tiles/images --test-json tiles/test.json \\
      --known tumor lymphocyte --out my.yaml
  osal data config --images tiles/images --known tumor lymphocyte --out my.yaml
The second is for tiles that nobody has labelled: it also writes my.json, and people label (OSAL.ORACLE.NAME human).
Every value in the file has its reason above it; paths are absolute, so that it works from any folder.
"""


def config(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--json", help="COCO JSON of the tiles to choose from")
    add("--image-root", help="folder of its images (default: that of the JSON)")
    add("--images", metavar="FOLDER", help="instead of both: a folder of unlabelled tiles")
    add("--test-json", help="COCO JSON to measure on; without it a run does not say how good it is")
    add("--test-image-root", help="folder of its images (default: that of the training images)")
    add("--known", nargs="+", default=[], metavar="CLASS", help="classes to be detected")
    add("--unknown", nargs="+", default=["other"], metavar="CLASS",
        help="with --images: other classes that annotators may choose (default: other)")  # fmt: skip
    add("--out", required=True, metavar="FILE", help="the config, e.g. my.yaml")
    add("--weights", default="", metavar="FILE", help="ImageNet weights of a network of torchvision")
    add("--network", default="", help="its name, e.g. resnet18 (default: found out)")
    add("--device", choices=("cpu", "cuda"), help="default: cuda where a GPU is usable")
    add("--oracle", choices=("simulated", "human"), help="who labels (default: the JSON if it can)")
    add("--nucleus-size", type=float, metavar="PX", help="without labels: side of a nucleus")
    add("--output-dir", help="where the run goes (default: output/NAME of --out)")
    add("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(call=_config)


def _config(args) -> None:
    """Write --out and what it needs, and say so."""
    from ..core.store import write_bytes
    from ..data.coco_file import FROM_A_FOLDER, check_known_classes, read_coco
    from ..data.proposal import Setting
    from ..data.proposed_config import coco_of_folder, config_text, proposed_settings

    if bool(args.json) == bool(args.images):
        raise ConfigError(f"give --json, or --images; {FROM_A_FOLDER}")
    out = Path(args.out)
    extra = {}
    if args.images:
        train = coco_of_folder(args.images, [*args.known, *(c for c in args.unknown if c not in args.known)])
        json_file, image_root = out.with_suffix(".json"), args.images
        extra[json_file] = json.dumps(train, indent=1) + "\n"
    else:
        train, json_file = read_coco(args.json), args.json
        image_root = args.image_root or os.path.dirname(os.path.abspath(args.json))
    check_known_classes(args.known, [category["name"] for category in train["categories"]], str(json_file))
    test = read_coco(args.test_json) if args.test_json else None
    people = args.oracle == "human" or not train["annotations"]
    if args.oracle == "simulated" and people:
        raise ConfigError(f"--oracle simulated: {json_file} has no label to play the annotator with")
    settings = proposed_settings(
        train,
        test,
        args.known,
        bases=CONFIGS,
        device=args.device or _device(),
        weights=args.weights,
        network=args.network,
        people=people,
        nucleus_side=args.nucleus_size,
        image_root=image_root,
    )
    settings += _data(args, json_file, image_root)
    labelled = {entry["image_id"] for entry in train["annotations"]}
    if people and labelled:
        init = out.with_name(f"{out.stem}_init.txt")
        extra[init] = "".join(f"{i['file_name']}\n" for i in train["images"] if i["id"] in labelled)
        why = "The tiles that have labels already: the first query is for others."
        settings.append(Setting("OSAL.BUDGET.INIT_FILE", str(init.absolute()), why))
    folder = os.path.abspath(args.output_dir or os.path.join("output", out.stem))
    settings.append(Setting("OUTPUT_DIR", folder, "The run."))
    extra[out] = config_text(
        settings,
        f"Written by `osal data config` for {len(train['images'])} tiles. Paths are absolute. Change what you like.",
    )
    for path in extra:
        if path.exists() and not args.force:
            raise OutputError(f"{path}: is there already; choose another --out, or add --force to replace it")
    for path, text in extra.items():
        write_bytes(path, text.encode())
    print(spelled(_summary(args, train, test, settings, extra)))


def _data(args, json_file, image_root: str) -> list:
    from ..data.proposal import Setting

    test_root = args.test_image_root or image_root
    settings = [
        Setting(
            "OSAL.DATA.KNOWN_CLASSES",
            args.known,
            "In the order of the detector's outputs; all others are unknown.",
        ),
        Setting("OSAL.DATA.TRAIN_JSON", os.path.abspath(json_file), "The tiles to choose from."),
        Setting("OSAL.DATA.TRAIN_IMAGE_ROOT", os.path.abspath(image_root), "Their images."),
    ]
    if not args.test_json:
        why = "No test set: nothing is said about how good the detector is (docs/data_coco.md)."
        return [*settings, Setting("OSAL.DATA.TEST_JSON", "", why)]
    return [
        *settings,
        Setting("OSAL.DATA.TEST_JSON", os.path.abspath(args.test_json), "What the detector is measured on."),
        Setting("OSAL.DATA.TEST_IMAGE_ROOT", os.path.abspath(test_root), "Their images."),
    ]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _summary(args, train: dict, test: dict | None, settings: list, written: dict) -> str:
    value = {setting.key: setting.value for setting in settings}
    measured = f"{len(test['images'])} test tiles" if test else "no test set"
    lines = [
        f"{' and '.join(map(str, written))} written: {len(train['images'])} tiles, {measured}, "
        f"device {value['MODEL.DEVICE']}, strategy {value['OSAL.STRATEGY']}"
    ]
    side = max(min(image["width"], image["height"]) for image in train["images"])
    if value["MODEL.DEVICE"] == "cpu" and side > 640:
        lines.append(
            f"images of {side} px are slow on a CPU and much work at once: cut them first (osal data tile)"
        )
    return "\n".join([*lines, f"next: osal train --config-file {args.out}"])
