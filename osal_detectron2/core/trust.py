"""Packages that the config in a run folder may name, beyond those that detectors are built of."""

import argparse
import os
from typing import Any

TRUST = "OSAL_TRUST"  # their names, with commas between; an environment variable, so that started processes have it


def trusted_packages() -> tuple[str, ...]:
    """The packages in $OSAL_TRUST."""
    return tuple(word.strip() for word in os.environ.get(TRUST, "").split(",") if word.strip())


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option --trust PACKAGE, which adds to $OSAL_TRUST."""

    class Trust(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
            os.environ[TRUST] = ",".join((*trusted_packages(), values))

    parser.add_argument(
        "--trust",
        action=Trust,
        metavar="PACKAGE",
        help="let the lazy config in a run folder build its detector of this package, too; may be repeated",
    )
