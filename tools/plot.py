#!/usr/bin/env python
"""Draw the figures and tables of a benchmark from its cell files alone."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a clone without installation

from osal_detectron2.core.errors import OSALError  # noqa: E402

EPILOG = """example:
  python tools/plot.py benchmarks/consep/results --out benchmarks/consep/figures
  python tools/plot.py output/grid/results --out output/figures --methods osal_nd random count_all --format png,pdf

Writes map_per_minute, fig2_map, fig3_known_queried, fig4_ablations, map_per_box, map_per_known_box, purity,
seconds_per_round and the variants with the ablations, where the files have what they show; table.md, table.csv and
results.json. A grid that is not complete is drawn as far as it is, and the table says how many cells each mean has.
Needs neither torch nor Detectron2. Pictures of detections are drawn by tools/plot_detections.py."""


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", metavar="RESULTS_DIR", help="folder of cell files (*.json)")
    parser.add_argument("--out", required=True, metavar="FIGURES_DIR", help="folder for figures and tables")
    parser.add_argument(
        "--settings", nargs="+", default=[], metavar="SETTING", help="only these (default: all)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="METHOD", help="only these (default: all)"
    )
    parser.add_argument(
        "--reference", default="osal_nd", help="method that others are compared with (%(default)s)"
    )
    parser.add_argument(
        "--target", type=float, default=0.95, help="part of full annotation's mAP50 to reach (%(default)s)"
    )
    parser.add_argument("--format", default="png", help="png, pdf, svg or several with commas (%(default)s)")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_arguments(argv)
    try:
        from osal_detectron2.benchmark.figures import draw_all
        from osal_detectron2.benchmark.results import mixtures, read_cells
        from osal_detectron2.benchmark.table import write_tables

        cells = read_cells(args.results, settings=args.settings, methods=args.methods)
        paths = draw_all(cells, args.out, formats=[name.strip() for name in args.format.split(",")])
        print(write_tables(cells, args.out, reference=args.reference, target=args.target))
        for line in mixtures(cells):
            print(f"warning: {line}", file=sys.stderr)
        print(f"{len(paths)} figures and table.md, table.csv, results.json in {args.out}")
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
