#!/usr/bin/env python
"""Open-set active learning: train, evaluate, query, annotate, in rounds.

This is a simplified script in the manner of Detectron2's tools/train_net.py: the work is in
osal_detectron2.engine.ActiveLearningTrainer, which you may as well use from a script of your own.

    tools/train_al.py --config-file configs/quickstart.yaml OUTPUT_DIR output/quickstart
    tools/train_al.py --resume OUTPUT_DIR output/quickstart
    tools/train_al.py --config-file configs/NuCLS/osal_nd_3_4.yaml --num-gpus 8
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a clone without installation
from osal_detectron2.quiet import quiet  # noqa: E402

quiet()

from osal_detectron2 import add_osal_config  # noqa: E402, F401  (it explains what to do if Detectron2 is missing)


def parse_arguments(argv=None):
    from osal_detectron2.engine.command_line import argument_parser

    return argument_parser(__doc__, front="yaml").parse_intermixed_args(argv)


def build_config(args):
    from osal_detectron2.engine.fronts import read_config

    return read_config(args.config_file, args.opts)


def run(argv=None) -> None:
    from osal_detectron2.engine.command_line import run

    run(parse_arguments(argv))


if __name__ == "__main__":
    run()
