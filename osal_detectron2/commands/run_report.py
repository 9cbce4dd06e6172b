"""`osal run report`: rebuild the report of one run, or compare several, from their files alone."""

import argparse
from dataclasses import replace

from ..core.errors import ConfigError
from ..core.spelling import spelled

EPILOG = """example:
  osal run report output/osal_nd_seed0
  osal run report output/osal_nd_seed* output/random_seed* --output output/comparison

Each run gets report.html, one page with everything in it that needs no network, and curve.csv, curves.png and
summary.json in its own folder. Several runs are also compared: comparison.png, comparison.csv
and a table of mean ± standard deviation over the runs of each strategy.
The time of annotation is an estimate, by the seconds that the run was given (OSAL.ORACLE.SECONDS_PER_TILE
and SECONDS_PER_NUCLEUS) or that are given here.
Needs neither torch nor Detectron2."""


def report(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a run")
    add(
        "--output",
        default="comparison",
        help="folder of the comparison of several runs (default: %(default)s)",
    )
    add("--seconds-per-tile", type=float, help="time to open a tile (default: as in the run)")
    add("--seconds-per-nucleus", type=float, help="time to mark a nucleus (default: as in the run)")
    add("--image-root", metavar="FOLDER", help="images of the tiles, where they were moved")
    parser.set_defaults(call=_report)


def _report(args) -> None:
    from ..evaluation.learning_curve import read_costs
    from ..evaluation.report import describe_run, write_report
    from ..report.run_page import RunPage

    given = {"per_tile": args.seconds_per_tile, "per_nucleus": args.seconds_per_nucleus}
    given = {name: value for name, value in given.items() if value is not None}
    if any(not 0 <= value < float("inf") for value in given.values()):
        raise ConfigError("seconds must be 0 or more")
    costs = {run: replace(read_costs(run), **given) for run in args.runs}
    # All reading comes before any writing, so a damaged run leaves all reports as they were.
    pages = [RunPage(run, costs[run], root=args.image_root) for run in args.runs]
    several = len(args.runs) > 1
    if several:
        from ..evaluation.compare import compare_runs

        text = compare_runs(args.runs, args.output, costs)
    for run, page in zip(args.runs, pages):
        write_report(run, costs[run])
        page.write()
    print(text if several else spelled(describe_run(args.runs[0])))
