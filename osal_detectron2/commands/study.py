"""`osal study annotators`, `osal study size`: how annotators err, how large a study has to be (docs/studies.md)."""

import argparse

from ..core.errors import ConfigError
from ..core.spelling import spelled


def annotators(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """examples:
  osal study annotators lung/first                      two people labelled the same tiles
  osal study annotators lung/first --truth expert.json  what they should have said is known"""
    parser.add_argument("run", metavar="RUN", help="a run folder, or the record of a campaign (lung/first)")
    parser.add_argument(
        "--truth",
        metavar="COCO.json",
        help="the true labels of these tiles, e.g. of an expert or a consensus",
    )
    parser.set_defaults(call=_annotators)


def size(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """example:
  osal study size output/annotators/results --points 2 --reach 30 --sitting 40"""
    parser.add_argument("results", metavar="RESULTS_DIR", help="folder of cell files of osal benchmark")
    parser.add_argument(
        "--points", type=float, default=2.0, help="difference of mAP50 that is to be seen (%(default)s)"
    )
    parser.add_argument("--reach", type=float, metavar="mAP50", help="say what reaching this mAP50 takes")
    parser.add_argument(
        "--power", type=float, default=0.8, help="chance to see a difference that is there (%(default)s)"
    )
    parser.add_argument(
        "--sitting",
        type=float,
        default=40.0,
        metavar="MINUTES",
        help="of an annotator in a day (%(default)s)",
    )
    parser.add_argument(
        "--reference", default="random", metavar="METHOD", help="method to compare with (%(default)s)"
    )
    parser.add_argument(
        "--annotators", default="perfect", metavar="SETTING", help="setting to compare with (%(default)s)"
    )
    parser.set_defaults(call=_size)


def _annotators(args) -> None:
    from ..oracles.pilot import describe_annotators, truth_of

    print(spelled(describe_annotators(args.run, truth_of(args.truth) if args.truth else None)))


def _size(args) -> None:
    from ..benchmark.results import read_cells
    from ..benchmark.study import Study, describe_study

    if not args.points > 0:
        raise ConfigError(f"--points must be above 0: {args.points}")
    if not 0.05 < args.power < 1:
        raise ConfigError(f"--power must be between 0.05 and 1: {args.power}")
    if not args.sitting > 0:
        raise ConfigError(f"--sitting must be above 0: {args.sitting}")
    study = Study(points=args.points, reach=args.reach, power=args.power, sitting=args.sitting)
    cells = read_cells(args.results)
    print(describe_study(cells, study, reference=args.reference, annotators=args.annotators))
