#!/usr/bin/env python
"""Rebuild the report of one run, or compare several, from their files alone."""

import argparse
import sys
from dataclasses import replace

from osal_detectron2.core.errors import OSALError
from osal_detectron2.evaluation.compare import compare_runs
from osal_detectron2.evaluation.learning_curve import read_costs
from osal_detectron2.evaluation.report import describe_run, write_report

EPILOG = """example:
  python tools/report.py output/osal_nd_seed0
  python tools/report.py output/osal_nd_seed* output/random_seed* --output output/comparison

Each run gets curve.csv, curves.png and summary.json in its own folder. Several runs are also compared:
comparison.png, comparison.csv and a table of mean ± standard deviation over the runs of each strategy.
The time of annotation is an estimate, by the seconds that the run was given (OSAL.ORACLE.SECONDS_PER_TILE
and SECONDS_PER_NUCLEUS) or that are given here.
Needs neither torch nor Detectron2."""


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a run")
    parser.add_argument(
        "--output",
        default="comparison",
        help="folder of the comparison of several runs (default: %(default)s)",
    )
    parser.add_argument("--seconds-per-tile", type=float, help="time to open a tile (default: as in the run)")
    parser.add_argument(
        "--seconds-per-nucleus", type=float, help="time to mark a nucleus (default: as in the run)"
    )
    args = parser.parse_args(argv)
    given = {"per_tile": args.seconds_per_tile, "per_nucleus": args.seconds_per_nucleus}
    given = {name: value for name, value in given.items() if value is not None}
    if any(not 0 <= value < float("inf") for value in given.values()):
        parser.error("seconds must be 0 or more")
    try:
        costs = {run: replace(read_costs(run), **given) for run in args.runs}
        several = len(args.runs) > 1
        if several:
            # First: it reads every run before it writes, so a damaged one leaves all reports as they were.
            text = compare_runs(args.runs, args.output, costs)
        for run in args.runs:
            write_report(run, costs[run])
        print(text if several else describe_run(args.runs[0]))
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
