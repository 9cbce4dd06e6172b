#!/usr/bin/env python
"""Look after an active learning run: where it stands, labels from people, an audit, one tile's story.

Needs Python and numpy only (`cost` scipy, too). Example:
    python tools/al.py status output/run1
    python tools/al.py import output/run1 labelled.json --dry-run
"""

import argparse
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

from osal_detectron2.core.errors import ConfigError, DataError, OSALError
from osal_detectron2.core.explain import explain
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.core.lock import RunLock
from osal_detectron2.core.verify import verify
from osal_detectron2.exchange.registry import FORMATS, write_for_tool
from osal_detectron2.oracles.exchange import import_batch, open_request, prefer_annotator
from osal_detectron2.oracles.returned import ACCEPT
from osal_detectron2.oracles.status import run_status
from osal_detectron2.oracles.timed import describe_cost


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
    why.add_argument(
        "tile", metavar="TILE", help="file_name of the tile in the COCO file, or a part that only it has"
    )
    add(
        "cost",
        "what a tile, a nucleus and a draft cost, fitted to the times that a tool measured",
        "python tools/al.py cost output/run1",
    )
    out = add(
        "export",
        "write the waiting batch for an annotation tool, with its label configuration and the tiles",
        "python tools/al.py export output/run1 --format label-studio --out batch1",
    )
    out.add_argument("--format", required=True, choices=list(FORMATS), help="of the tool")
    out.add_argument("--out", required=True, metavar="FOLDER", help="new folder to write into")
    out.add_argument("--no-images", action="store_true", help="without copies of the tiles")
    imp = add(
        "import",
        "take the labels that people made into the waiting batch",
        "python tools/al.py import output/run1 labelled.json --annotator anna --map-class Tumour=tumor --dry-run",
    )
    imp.add_argument(
        "file", metavar="FILE", help="file, folder or ZIP archive with some or all tiles of the batch"
    )
    imp.add_argument("--format", choices=list(FORMATS), help="of FILE (default: told by its content)")
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
        help='tiles without a box, in a file from a tool that dropped "review" (default: pending); '
        "empty needs --opened",
    )
    imp.add_argument(
        "--treat-skipped-as",
        choices=("pending", "rejected"),
        default="pending",
        help="tiles that somebody skipped in Label Studio (default: pending)",
    )
    imp.add_argument(
        "--opened",
        metavar="FILE|all",
        help="the tiles that somebody opened: a text file with one file_name a line, or all",
    )
    imp.add_argument(
        "--map-class",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="class OLD of the file is NEW of the run; may be repeated",
    )
    imp.add_argument(
        "--skip-other-tiles", action="store_true", help="leave out images that are not of this batch"
    )
    for word, meaning in ACCEPT.items():
        imp.add_argument(f"--accept-{word}", action="append_const", dest="accept", const=word, help=meaning)
    imp.add_argument(
        "--annotator",
        metavar="NAME",
        help="who made the labels; everybody's answers are kept (default: as the file says, else human)",
    )
    imp.add_argument(
        "--map-annotator",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="annotator OLD of the file (Label Studio: user 1) is NEW; may be repeated",
    )
    imp.add_argument("--prefer", metavar="NAME", help="whose answers count where annotators disagree now")
    prefer = add(
        "prefer",
        "say whose answers count where annotators disagree",
        "python tools/al.py prefer output/run1 anna slide3/tile7.png",
    )
    prefer.add_argument("annotator", metavar="NAME", help="as it was given to import --annotator")
    prefer.add_argument("tiles", metavar="TILE", nargs="*", help="for these tiles (default: all in dispute)")
    return parser


def _import(args):
    classes = _pairs("--map-class", args.map_class, "Tumour=tumor")
    annotators = _pairs("--map-annotator", args.map_annotator, "'user 1=anna'")
    Ledger.open(args.run)  # no lock file in a folder that is no run
    with nullcontext() if args.dry_run else RunLock(args.run):
        report = import_batch(
            args.run,
            args.file,
            treat_missing_as=args.treat_missing_as,
            treat_empty_as=args.treat_empty_as,
            treat_skipped_as=args.treat_skipped_as,
            map_class=classes,
            map_annotator=annotators,
            opened=_opened(args.opened),
            skip_other_tiles=args.skip_other_tiles,
            accept=args.accept or (),
            annotator=args.annotator,
            format=args.format,
            prefer=args.prefer,
            dry_run=args.dry_run,
        )
    encoding = sys.stdout.encoding or "utf-8"  # which may lack a letter of a name in the file
    print(str(report).encode(encoding, "backslashreplace").decode(encoding))
    if report.complete and not report.dry_run:
        print(run_status(args.run).splitlines()[-1])


def _pairs(option, texts, example):
    """{OLD: NEW} of the texts OLD=NEW."""
    pairs = [text.split("=", 1) for text in texts]
    if wrong := [text for text, pair in zip(texts, pairs) if len(pair) != 2 or not all(pair)]:
        raise ConfigError(f"{option} {wrong[0]}: write OLD=NEW, e.g. {option} {example}")
    return dict(pairs)


def _export(args):
    _, _, request = open_request(args.run)
    out = write_for_tool(request, args.run, args.format, args.out, copy_images=not args.no_images)
    print(
        f"{out}: {len(request.tiles)} tiles of round {request.round_index} for {args.format}; read {out / 'README.txt'}"
    )


def _opened(value):
    """ "all", the lines of a text file, or None."""
    if value in (None, "all"):
        return value
    try:
        lines = Path(value).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--opened {value}: cannot be read ({error}); give a text file, or all") from error
    return [line.strip() for line in lines if line.strip()]


def _prefer(args):
    Ledger.open(args.run)
    with RunLock(args.run):
        tiles = prefer_annotator(args.run, args.annotator, args.tiles)
    print(
        "\n".join(f"{args.annotator}'s answer counts for {tile}" for tile in tiles) or "no tile is in dispute"
    )
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
        elif args.command == "export":
            _export(args)
        elif args.command == "prefer":
            _prefer(args)
        else:
            Ledger.open(args.run)
            say = {"status": run_status, "cost": describe_cost}.get(args.command)
            print(say(args.run) if say else explain(args.run, args.tile))
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
