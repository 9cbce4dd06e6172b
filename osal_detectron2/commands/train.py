"""`osal train` and `osal lazy`: the rounds of active learning, from a YAML config or from a LazyConfig.

The work is in osal_detectron2.engine, whose trainers you may as well use from a script of your own.
"""

import argparse

from ..core.shipped import find_config
from ..core.trust import add_trust

_TRAIN = """examples:
  osal train --config-file configs/quickstart.yaml OUTPUT_DIR output/quickstart
  osal train --resume OUTPUT_DIR output/quickstart
  osal train --config-file configs/NuCLS/osal_nd_3_4.yaml --num-gpus 8

A simplified script in the manner of Detectron2's tools/train_net.py."""

_LAZY = """examples:
  osal lazy --config-file configs/lazy/faster_rcnn_fpn.py train.output_dir=output/lazy
  osal lazy --resume train.output_dir=output/lazy
  osal lazy --config-file configs/lazy/vitdet.py --num-gpus 8 osal.STRATEGY=random

Words after the options change the config, as in Detectron2's tools/lazyconfig_train_net.py; rounds, files and options
are those of osal train."""


def train(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _TRAIN
    _add_options(parser, words="KEY VALUE")
    parser.set_defaults(front="yaml")


def lazy(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _LAZY
    _add_options(parser, words="KEY=VALUE")
    parser.set_defaults(front="lazy")


def _add_options(parser: argparse.ArgumentParser, *, words: str) -> None:
    """Detectron2's options and ours, before or behind the words."""
    parser.allow_abbrev = False
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="the config; a run that goes on knows its own")
    add(
        "--resume", action="store_true", help="go on with the run in OUTPUT_DIR, or start it if there is none"
    )
    add(
        "--dry-run",
        action="store_true",
        help="say what the next round would query, why, and what it would cost; train and write nothing",
    )
    add("--eval-only", action="store_true", help="evaluate one checkpoint; write nothing")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine")
    add("--num-machines", type=int, default=1, metavar="N", help="how many machines")
    add("--machine-rank", type=int, default=0, metavar="I", help="which of them this is")
    add("--dist-url", default="auto", metavar="URL", help="where the processes meet")
    add_trust(parser)
    add("opts", nargs="*", metavar=words, help="changes of the config")
    parser.set_defaults(call=_run)


def _run(args: argparse.Namespace) -> None:
    from .. import add_osal_config  # noqa: F401  (first: it explains what to do if Detectron2 is missing)
    from ..engine import command_line

    args.config_file = find_config(args.config_file)
    command_line.run(args)
