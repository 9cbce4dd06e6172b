"""`osal predict`: the detector of a run on images: COCO detections, GeoJSON, overlays, and what looks unknown."""

import argparse
import logging
import sys

from ..core.trust import add_trust

EPILOG = """example:
  osal predict output/quickstart --images slides/regions --out predictions
  osal predict output/quickstart --json tiles/test.json --image-root tiles/images --out predictions

Each detection has its score and, where the run has them, cls_uncertainty, loc_tightness and looks_unknown. Reads run
and images and changes nothing there; the same call writes the same files."""


def predict(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "run",
        metavar="RUN_OR_CHECKPOINT",
        help="OUTPUT_DIR of a run, a .pth file in it, or a folder of osal export",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="FOLDER", help="all images below this folder")
    source.add_argument(
        "--json", metavar="COCO.json", help="the images of a COCO file; its boxes play no part"
    )
    add("--image-root", metavar="DIR", help="folder of the images of --json")
    add("--out", required=True, metavar="FOLDER", help="where to write")
    add("--score-thresh", type=float, default=0.3, help="lowest score written (%(default)s)")
    add("--formats", default="coco,geojson,overlay", help="which outputs, with commas between (%(default)s)")
    add(
        "--unknown-rule",
        choices=("proto", "label", "both"),
        default="proto",
        help="looks_unknown: nearer to the unknown prototype (%(default)s), labelled unknown, or both",
    )
    add(
        "--tile",
        type=int,
        help="side in pixels of the windows that images larger than twice that are cut into; 0: never cut "
        "(default: as the training tiles)",
    )
    add("--overlap", type=int, help="pixels that windows share (default: a quarter of the tile)")
    add("--batch-size", type=int, default=4, help="tiles in one pass (%(default)s)")
    add_trust(parser)
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.set_defaults(call=_predict)


def _predict(args) -> None:
    from ..core.errors import ConfigError
    from ..deploy.predict import predict

    if (args.json is None) != (args.image_root is None):
        raise ConfigError("--json and --image-root go together")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("osal_detectron2").setLevel(logging.INFO)
    found = predict(
        args.run,
        args.out,
        images=args.images,
        json_file=args.json,
        image_root=args.image_root,
        score_thresh=args.score_thresh,
        formats=[name.strip() for name in args.formats.split(",") if name.strip()],
        rule=args.unknown_rule,
        tile=args.tile,
        overlap=args.overlap,
        batch_size=args.batch_size,
        device=args.device,
    )
    kinds = ", ".join(f"{number} {name}" for name, number in found["per_class"].items())
    unknown = "" if found["looks_unknown"] is None else f"; {found['looks_unknown']} look unknown"
    print(f"{args.out}: {found['images']} images, {found['detections']} nuclei ({kinds}){unknown}")
    if found["warning"]:
        print(f"warning: {found['warning']}")
