"""`osal run status`, `verify`, `why` and `cost`: what the record of a run says, read with numpy (`cost`: and scipy)."""

import argparse

from ..core.spelling import spelled


def status(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run status output/run1")
    parser.set_defaults(call=_status)


def verify(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run verify output/run1")
    parser.set_defaults(call=_verify)


def why(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run why output/run1 slide3/tile7.png")
    parser.add_argument(
        "tile", metavar="TILE", help="file_name of the tile in the COCO file, or a part that only it has"
    )
    parser.set_defaults(call=_why)


def cost(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run cost output/run1")
    parser.set_defaults(call=_cost)


def add_run(parser: argparse.ArgumentParser, example: str) -> None:
    """The argument RUN and an example."""
    parser.add_argument("run", metavar="RUN", help="folder of the run (OUTPUT_DIR)")
    parser.epilog = f"example:\n  {example}"


def _status(args) -> None:
    from ..oracles.status import run_status

    print(spelled(run_status(args.run)))


def _verify(args) -> int:
    from ..core.verify import verify

    findings = verify(args.run)
    print(spelled("\n".join(findings)) if findings else f"{args.run}: the record is complete and unchanged")
    return int(bool(findings))


def _why(args) -> None:
    from ..core.explain import explain

    print(explain(args.run, args.tile))


def _cost(args) -> None:
    from ..core.ledger import Ledger
    from ..oracles.timed import describe_cost

    Ledger.open(args.run)
    print(spelled(describe_cost(args.run)))
