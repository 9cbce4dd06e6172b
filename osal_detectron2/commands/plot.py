"""`osal plot`: the figures and tables of a benchmark from its cell files alone."""

import argparse
import sys

EPILOG = """example:
  osal plot benchmarks/consep/results --out benchmarks/consep/figures
  osal plot output/grid/results --out output/figures --methods osal_nd random count_all --format png,pdf

Writes map_per_minute, fig2_map, fig3_known_queried, fig4_ablations, map_per_box, map_per_known_box, purity,
seconds_per_round and the variants with the ablations, where the files have what they show; table.md, table.csv and
results.json. A grid that is not complete is drawn as far as it is, and the table says how many cells each mean has.
Needs neither torch nor Detectron2. Pictures of detections are drawn by osal run detections."""


def plot(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add("results", metavar="RESULTS_DIR", help="folder of cell files (*.json)")
    add("--out", required=True, metavar="FIGURES_DIR", help="folder for figures and tables")
    add("--settings", nargs="+", default=[], metavar="SETTING", help="only these (default: all)")
    add("--methods", nargs="+", default=[], metavar="METHOD", help="only these (default: all)")
    add("--reference", default="osal_nd", help="method that others are compared with (%(default)s)")
    add("--target", type=float, default=0.95, help="part of full annotation's mAP50 to reach (%(default)s)")
    add("--format", default="png", help="png, pdf, svg or several with commas (%(default)s)")
    parser.set_defaults(call=_plot)


def _plot(args) -> None:
    from ..benchmark.figures import draw_all
    from ..benchmark.results import mixtures, read_cells
    from ..benchmark.table import write_tables

    cells = read_cells(args.results, settings=args.settings, methods=args.methods)
    paths = draw_all(cells, args.out, formats=[name.strip() for name in args.format.split(",")])
    print(write_tables(cells, args.out, reference=args.reference, target=args.target))
    for line in mixtures(cells):
        print(f"warning: {line}", file=sys.stderr)
    print(f"{len(paths)} figures and table.md, table.csv, results.json in {args.out}")
