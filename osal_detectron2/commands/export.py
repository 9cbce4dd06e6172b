"""`osal export`: the target detector of a run as a plain Detectron2 checkpoint and config, and as TorchScript."""

import argparse
import logging
import sys
from pathlib import Path

from ..core.trust import add_trust

EPILOG = """example:
  osal export output/quickstart --out exported --torchscript

Writes model.pth and config.yaml, which Detectron2 loads without this package if the backbone is one of its own,
metadata.json (classes, input format, mean and std), and with --torchscript model.ts, which needs torch and torchvision
only. Reads the run and changes nothing there."""


def export(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "run",
        metavar="RUN_OR_CHECKPOINT",
        help="OUTPUT_DIR of a run, or a .pth file in it (its last round: default)",
    )
    add("--out", required=True, metavar="FOLDER", help="where to write")
    add("--torchscript", action="store_true", help="write model.ts as well")
    add_trust(parser)
    add("--device", default="cpu", help="device of model.ts and of config.yaml (%(default)s)")
    parser.set_defaults(call=_export)


def _export(args) -> None:
    from ..deploy.export import export_detector
    from ..deploy.load import load_detector
    from ..deploy.predict import refuse_inside

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    detector = load_detector(args.run, device=args.device)
    refuse_inside(Path(args.out), [detector.folder])
    metadata = export_detector(detector, args.out, torchscript=args.torchscript)
    print(
        f"{args.out}: {', '.join(sorted(metadata['sha256']))}, metadata.json; {len(metadata['classes'])} classes"
    )
    if "model.pth" in metadata["sha256"] and metadata["unknown_classes"]:
        print(
            f"notice: model.pth also finds unknown nuclei, as class {len(metadata['classes'])} and above "
            f"({', '.join(metadata['unknown_classes'])}); leave them out or show them (docs/predict.md)"
        )
    if "config.yaml" not in metadata["sha256"]:
        print(
            "notice: plain Detectron2 cannot have this detector, so model.ts alone was written (docs/predict.md)"
        )
    elif metadata["needs"]:
        print(
            f"notice: the backbone {detector.cfg.MODEL.BACKBONE.NAME} is not Detectron2's own, so config.yaml needs "
            f"{', '.join(metadata['needs'])} to be imported and its config keys added (docs/predict.md)"
            + ("" if args.torchscript else "; --torchscript writes a model that needs neither")
        )
    else:
        print("stock Detectron2 loads it: MODEL.WEIGHTS is model.pth, relative to the folder where it is run")
