"""`osal run detections`: what the final detectors of several runs find on the same test tiles, miss and add."""

import argparse
import logging
from pathlib import Path

from ..core.errors import ConfigError, DataError

EPILOG = """example:
  osal run detections output/osal_nd output/random output/count_all --out output/fig5.png --number 2
  osal run detections output/osal_nd output/lfosa --out fig5.pdf --tiles tile_012.png --labels OSAL-ND LfOSA

The first column is the annotation. Solid boxes in the colour of their class: detections that match a nucleus of that
class at IoU 0.5; dotted: missed nuclei; hatched: extra detections; white dashes: nuclei of unknown classes. Reads
config.yaml and model_final.pth of each run and writes nothing there. Paths in config.yaml are relative to the folder in
which training was started."""


def detections(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a finished run")
    add("--out", required=True, metavar="FILE", help="picture to write: .png, .pdf or .svg")
    add("--tiles", nargs="+", default=[], metavar="KEY", help="test tiles to show")
    add(
        "--number", type=int, default=2, help="without --tiles: so many, those with most nuclei (%(default)s)"
    )
    add("--labels", nargs="+", default=[], help="titles of the runs (default: their strategies)")
    add("--score-thresh", type=float, default=0.5, help="lowest score that is drawn (%(default)s)")
    add("--iou-thresh", type=float, default=0.5, help="overlap that counts as found (%(default)s)")
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.set_defaults(call=_detections)


def _detections(args) -> None:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    draw(args)
    print(f"wrote {args.out}")


def draw(args) -> None:
    import numpy as np
    from PIL import Image

    from ..benchmark.detections import draw_detections
    from ..benchmark.figures import FORMATS, render
    from ..benchmark.final_detector import choose_tiles, found_boxes, ground_truth, read_test_set
    from ..core.store import write_bytes
    from ..deploy.load import FINAL, load_detector, locate, read_config

    suffix = Path(args.out).suffix[1:]
    if suffix not in FORMATS:
        raise ConfigError(f"--out {args.out}: must end in one of {', '.join('.' + name for name in FORMATS)}")
    if args.labels and len(args.labels) != len(args.runs):
        raise ConfigError(
            f"--labels gives {len(args.labels)} titles for {len(args.runs)} runs; give one each"
        )
    finals = [Path(run) / FINAL for run in args.runs]
    configs = [read_config(locate(final)[0]) for final in finals]
    sets = [read_test_set(cfg) for cfg in configs]
    records, known = sets[0]
    if not records:
        raise DataError(f"{args.runs[0]}: has no test set, and these pictures are of test tiles")
    keys = args.tiles or choose_tiles(list(records.values()), num_known=len(known), number=args.number)
    for run, (other, classes) in zip(args.runs, sets):
        if classes != known:
            raise DataError(
                f"{run} detects {', '.join(classes)}, but {args.runs[0]} {', '.join(known)}; draw them apart"
            )
        for key in keys:
            if key not in other:
                raise DataError(f"{run}: tile {key} is not in its test set; choose others with --tiles")
    chosen = [records[key] for key in keys]
    labels = args.labels or _labels(args.runs, [cfg.OSAL.STRATEGY for cfg in configs])
    figure = draw_detections(
        [np.asarray(Image.open(record["file_name"]).convert("RGB")) for record in chosen],
        [ground_truth(record) for record in chosen],
        {
            label: found_boxes(
                load_detector(final, device=args.device),
                [other[key] for key in keys],
                score_thresh=args.score_thresh,
            )
            for label, final, (other, _) in zip(labels, finals, sets)
        },
        known_classes=known,
        iou_thresh=args.iou_thresh,
    )
    write_bytes(args.out, render(figure, suffix))


def _labels(runs, strategies) -> list[str]:
    """The strategies' names, or the folders' where two runs share a strategy."""
    from ..benchmark.styles import styles_of

    if len(set(strategies)) < len(strategies):
        return [Path(run).name for run in runs]
    return [styles_of([name])[name].label for name in strategies]
