"""`osal run export`, `import` and `prefer`: the batch that waits for people, out to their tool and back."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from ..core.errors import ConfigError, DataError
from ..core.spelling import spelled
from ..exchange.words import ACCEPT, FORMATS
from .run_record import add_run


def export(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run export output/run1 --format label-studio --out batch1")
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the tool")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new folder to write into")
    parser.add_argument("--no-images", action="store_true", help="without copies of the tiles")
    parser.set_defaults(call=_export)


def take(parser: argparse.ArgumentParser) -> None:
    add_run(
        parser,
        "osal run import output/run1 labelled.json --annotator anna --map-class Tumour=tumor --dry-run",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="file, folder or ZIP archive with some or all tiles of the batch")
    add("--format", choices=FORMATS, help="of FILE (default: told by its content)")
    add("--dry-run", action="store_true", help="check and report, write nothing")
    add(
        "--treat-missing-as",
        choices=("pending", "empty", "rejected"),
        default="pending",
        help="tiles of the batch that no file named so far (default: pending)",
    )
    add(
        "--treat-empty-as",
        choices=("pending", "empty"),
        default="pending",
        help='tiles without a box, in a file from a tool that dropped "review" (default: pending); '
        "empty needs --opened",
    )
    add(
        "--treat-skipped-as",
        choices=("pending", "rejected"),
        default="pending",
        help="tiles that somebody skipped in Label Studio (default: pending)",
    )
    add(
        "--opened",
        metavar="FILE|all",
        help="the tiles that somebody opened: a text file with one file_name a line, or all",
    )
    add(
        "--map-class",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="class OLD of the file is NEW of the run; may be repeated",
    )
    add("--skip-other-tiles", action="store_true", help="leave out images that are not of this batch")
    for word, meaning in ACCEPT.items():
        add(f"--accept-{word}", action="append_const", dest="accept", const=word, help=meaning)
    add(
        "--annotator",
        metavar="NAME",
        help="who made the labels; everybody's answers are kept (default: as the file says, else human)",
    )
    add(
        "--map-annotator",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="annotator OLD of the file (Label Studio: user 1) is NEW; may be repeated",
    )
    add("--prefer", metavar="NAME", help="whose answers count where annotators disagree now")
    parser.set_defaults(call=_import)


def prefer(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run prefer output/run1 anna slide3/tile7.png")
    parser.add_argument("annotator", metavar="NAME", help="as it was given to import --annotator")
    parser.add_argument("tiles", metavar="TILE", nargs="*", help="for these tiles (default: all in dispute)")
    parser.set_defaults(call=_prefer)


def _import(args) -> None:
    from ..core.ledger import Ledger
    from ..core.lock import RunLock
    from ..oracles.exchange import import_batch
    from ..oracles.status import run_status

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
    print(spelled(str(report)).encode(encoding, "backslashreplace").decode(encoding))
    if report.complete and not report.dry_run:
        print(spelled(run_status(args.run).splitlines()[-1]))


def _pairs(option, texts, example):
    """{OLD: NEW} of the texts OLD=NEW."""
    pairs = [text.split("=", 1) for text in texts]
    if wrong := [text for text, pair in zip(texts, pairs) if len(pair) != 2 or not all(pair)]:
        raise ConfigError(f"{option} {wrong[0]}: write OLD=NEW, e.g. {option} {example}")
    return dict(pairs)


def _export(args) -> None:
    from ..exchange.registry import write_for_tool
    from ..oracles.exchange import open_request

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


def _prefer(args) -> None:
    from ..core.ledger import Ledger
    from ..core.lock import RunLock
    from ..oracles.exchange import prefer_annotator
    from ..oracles.status import run_status

    Ledger.open(args.run)
    with RunLock(args.run):
        tiles = prefer_annotator(args.run, args.annotator, args.tiles)
    print(
        "\n".join(f"{args.annotator}'s answer counts for {tile}" for tile in tiles) or "no tile is in dispute"
    )
    print(spelled(run_status(args.run).splitlines()[-1]))
