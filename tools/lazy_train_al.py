#!/usr/bin/env python
"""Open-set active learning from a LazyConfig: the rounds, files and options of tools/train_al.py.

Words after the options change the config, as in Detectron2's tools/lazyconfig_train_net.py.

    tools/lazy_train_al.py --config-file configs/lazy/faster_rcnn_fpn.py train.output_dir=output/lazy
    tools/lazy_train_al.py --resume train.output_dir=output/lazy
    tools/lazy_train_al.py --config-file configs/lazy/vitdet.py --num-gpus 8 osal.STRATEGY=random
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a clone without installation
from osal_detectron2.quiet import quiet  # noqa: E402

quiet()

import osal_detectron2  # noqa: E402, F401  (first: it explains what to do if Detectron2 is missing)


def run(argv=None) -> None:
    from osal_detectron2.engine import command_line

    command_line.run(command_line.argument_parser(__doc__, front="lazy").parse_intermixed_args(argv))


if __name__ == "__main__":
    run()
