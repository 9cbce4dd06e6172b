#!/usr/bin/env python
"""Look after an active learning run: where it stands, labels from people, an audit, one tile's story.

Needs Python and numpy only. Example:
    python tools/al.py status output/run1
    python tools/al.py import output/run1 labelled.json --dry-run
"""

import argparse
import logging
import sys
from contextlib import nullcontext

from osal_detectron2.core.errors import ConfigError, OSALError
from osal_detectron2.core.explain import explain
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.core.lock import RunLock
from osal_detectron2.core.verify import verify
from osal_detectron2.oracles.exchange import import_batch
from osal_detectron2.oracles.status import run_status


def _parser():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="al.py", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, summary, example):
        sub = commands.add_parser(
            name, help=summary, description=summary, epilog=f"example:\n  {example}", formatter_class=raw
        )
        sub.add_argument("run", metavar="RUN", help="folder of the run (OUTPUT_DIR)")
        return sub

    add("status", "where the run stands, and what to type next", "python tools/al.py status output/run1")
    add(
        "verify",
        "check every file of the record; exit 1 with findings",
        "python tools/al.py verify output/run1",
    )
    why = add(
        "why", "scores, place and reason of one tile", "python tools/al.py why output/run1 slide3/tile7.png"
    )
    why.add_argument("tile", metavar="TILE", help="file_name of the tile in the COCO file")
    imp = add(
        "import",
        "take the labels that people made (COCO JSON) into the waiting batch",
        "python tools/al.py import output/run1 labelled.json --map-class Tumour=tumor --dry-run",
    )
    imp.add_argument("file", metavar="FILE", help="COCO JSON with some or all tiles of the batch")
    imp.add_argument("--dry-run", action="store_true", help="check and report, write nothing")
    imp.add_argument(
        "--treat-missing-as",
        choices=("pending", "empty", "rejected"),
        default="pending",
        help="tiles of the batch that no file named so far (default: pending)",
    )
    imp.add_argument(
        "--treat-empty-as",
        choices=("pending", "empty"),
        default="pending",
        help='tiles without a box, in a file from a tool that dropped "review" (default: pending)',
    )
    imp.add_argument(
        "--map-class",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="class OLD of the file is NEW of the run; may be repeated",
    )
    imp.add_argument(
        "--accept-unchanged",
        action="store_true",
        help='tiles whose boxes are exactly the pre-annotations were reviewed, though "review" is lost',
    )
    imp.add_argument("--annotator", default="human", help="who made the labels (default: human)")
    return parser


def _import(args):
    pairs = [text.split("=", 1) for text in args.map_class]
    if wrong := [text for text, pair in zip(args.map_class, pairs) if len(pair) != 2 or not all(pair)]:
        raise ConfigError(f"--map-class {wrong[0]}: write OLD=NEW, e.g. --map-class Tumour=tumor")
    Ledger.open(args.run)  # no lock file in a folder that is no run
    with nullcontext() if args.dry_run else RunLock(args.run):
        report = import_batch(
            args.run,
            args.file,
            treat_missing_as=args.treat_missing_as,
            treat_empty_as=args.treat_empty_as,
            map_class=dict(pairs),
            accept_unchanged=args.accept_unchanged,
            annotator=args.annotator,
            dry_run=args.dry_run,
        )
    print(report)
    if report.complete and not report.dry_run:
        print(run_status(args.run).splitlines()[-1])


def main(argv=None) -> int:
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s")
    try:
        if args.command == "verify":
            findings = verify(args.run)
            print("\n".join(findings) if findings else f"{args.run}: the record is complete and unchanged")
            return 1 if findings else 0
        if args.command == "import":
            _import(args)
        else:
            print(run_status(args.run) if args.command == "status" else explain(args.run, args.tile))
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
