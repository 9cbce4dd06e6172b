#!/usr/bin/env python
"""Rebuild the report of one run, or compare several, from their files alone."""

import argparse
import sys

from osal_detectron2.core.errors import OSALError
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.evaluation.report import compare_runs, format_table, write_report

EPILOG = """example:
  python tools/report.py output/osal_nd_seed0
  python tools/report.py output/osal_nd_seed* output/random_seed* --output output/comparison

Each run gets curve.csv, curves.png and summary.json in its own folder. Several runs are also compared:
comparison.png, comparison.csv and a table of mean ± standard deviation over the runs of each strategy.
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
    args = parser.parse_args(argv)
    try:
        if len(args.runs) == 1:
            table = format_table(read_curve(args.runs[0]))
        else:
            # First: it reads every run before it writes, so a damaged one leaves all reports as they were.
            table = compare_runs(args.runs, args.output)
        for run in args.runs:
            write_report(run)
        print(table)
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
