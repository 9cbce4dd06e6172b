"""`python -m osal_detectron2.campaign init ...`, until `osal campaign` is there."""

import argparse
import sys

from ..commands import campaign
from ..core.errors import OSALError

COMMANDS = {"init": "begin", "status": "status", "next": "go_on", "sync": "sync", "verify": "verify"}


def main(argv=None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        print(f"usage: osal campaign {' | '.join(COMMANDS)} FOLDER ...", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        prog=f"osal campaign {words[0]}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    getattr(campaign, COMMANDS[words[0]])(parser)
    args = parser.parse_args(words[1:])
    try:
        return args.call(args) or 0
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
