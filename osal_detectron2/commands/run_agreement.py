"""`osal run agreement`: how far the people who label agree, per class and pair, and on which tiles they do not."""

import argparse
import json

from ..core.spelling import spelled
from .run_record import add_run


def agreement(parser: argparse.ArgumentParser) -> None:
    add_run(parser, "osal run agreement output/run1 > agreement.md")
    parser.add_argument("--json", action="store_true", help="as JSON (default: tables in Markdown)")
    parser.set_defaults(call=_agreement)


def _agreement(args) -> None:
    from ..campaign.folder import run_folders
    from ..oracles.opinions import agreement_of, describe_agreement

    found = agreement_of(run_folders(args.run))
    if args.json:
        print(json.dumps(found and found.as_json(), indent=1, allow_nan=False))
    else:
        print(spelled(describe_agreement(found)))
