#!/usr/bin/env python
"""Open-set active learning: train, evaluate, query, annotate, in rounds.

This is a simplified script in the manner of Detectron2's tools/train_net.py: the work is in
osal_detectron2.engine.ActiveLearningTrainer, which you may as well use from a script of your own.

    tools/train_al.py --config-file configs/quickstart.yaml OUTPUT_DIR output/quickstart
    tools/train_al.py --config-file configs/quickstart.yaml --resume OUTPUT_DIR output/quickstart
    tools/train_al.py --config-file configs/NuCLS/osal_nd_3_4.yaml --num-gpus 8
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a clone without installation
from osal_detectron2.quiet import quiet  # noqa: E402

quiet()

from osal_detectron2 import add_osal_config  # noqa: E402  (first: it explains what to do if Detectron2 is missing)

# isort: split
from osal_detectron2.core.errors import ConfigError  # noqa: E402


def parse_arguments(argv=None):
    from osal_detectron2.engine.command_line import argument_parser

    return argument_parser(__doc__).parse_args(argv)


def build_config(args):
    from detectron2.config import get_cfg
    from yaml import YAMLError

    cfg = get_cfg()
    add_osal_config(cfg)
    try:
        if args.config_file:
            cfg.merge_from_file(args.config_file)
        cfg.merge_from_list(args.opts)
    except FileNotFoundError as error:
        raise ConfigError(f"--config-file {error.filename}: no such file") from None
    except YAMLError as error:
        raise ConfigError(f"{args.config_file}: not YAML ({' '.join(str(error).split())})") from None
    except (
        AssertionError,
        KeyError,
        ValueError,
    ) as error:  # yacs: odd number of words, unknown key, wrong type
        raise ConfigError(
            f"{error.args[0]}; our keys are in osal_detectron2/config.py; floats have a dot, "
            "names in a list have quotes"
        ) from None
    return cfg


def prepare(args):
    """OUTPUT_DIR and what makes the trainer, in every process."""
    from osal_detectron2.engine import ActiveLearningTrainer

    cfg = build_config(args)
    return cfg.OUTPUT_DIR, partial(ActiveLearningTrainer, cfg)


def run(argv=None) -> None:
    from osal_detectron2.engine.command_line import run

    run(parse_arguments(argv), prepare)


if __name__ == "__main__":
    run()
