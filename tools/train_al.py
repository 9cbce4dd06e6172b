#!/usr/bin/env python
"""Open-set active learning: train, evaluate, query, annotate, in rounds.

This is a simplified script in the manner of Detectron2's tools/train_net.py: the work is in
osal_detectron2.engine.ActiveLearningTrainer, which you may as well use from a script of your own.

    tools/train_al.py --config-file configs/quickstart.yaml OUTPUT_DIR output/quickstart
    tools/train_al.py --config-file configs/quickstart.yaml --resume OUTPUT_DIR output/quickstart
    tools/train_al.py --config-file configs/NuCLS/osal_nd_3_4.yaml --num-gpus 8
"""

import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works from a clone without installation
# Detectron2 on a recent torch warns of what its users cannot mend.
warnings.filterwarnings("ignore", message=".*(torch.jit.script|indexing argument|`broadcast_buffers`)")

from osal_detectron2 import add_osal_config  # noqa: E402  (first: it explains what to do if Detectron2 is missing)

# isort: split
from torch.multiprocessing import ProcessExitedException  # noqa: E402

from osal_detectron2.core.errors import ConfigError, DataError, OSALError  # noqa: E402
from osal_detectron2.core.lock import RunLock  # noqa: E402
from osal_detectron2.core.store import clean_temporary  # noqa: E402


def parse_arguments(argv=None):
    from detectron2.engine import default_argument_parser

    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the next round would query, why, and what it would cost; train and write nothing",
    )
    parser.set_defaults(dist_url="auto")
    return parser.parse_args(argv)


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
            f"{error.args[0]}; our keys are in osal_detectron2/config.py; floats have a dot"
        ) from None
    return cfg


def main(args) -> None:
    """Runs in every process."""
    from detectron2.utils import comm

    from osal_detectron2.dist import leave
    from osal_detectron2.engine import AwaitingLabels

    try:
        train(args)
        comm.synchronize()  # a rank that leaves early would cut off one that still waits for a message
    except AwaitingLabels as stop:
        if comm.is_main_process():
            print(stop.message)
        comm.synchronize()
    except OSALError as error:
        # Errors that a data loader's worker met carry its traceback in front.
        # Every process finds the same fault in a config; only data may be bad in one process alone.
        if comm.is_main_process() or (isinstance(error, DataError) and getattr(error, "on_rank_0", True)):
            print(f"error: {str(error).rsplit('Error: ', 1)[-1].strip()}", file=sys.stderr)
        raise SystemExit(1) from None
    except FloatingPointError as error:
        advice = "lower SOLVER.BASE_LR, raise SOLVER.WARMUP_ITERS or enable SOLVER.CLIP_GRADIENTS, in a new OUTPUT_DIR"
        print(f"error: the training diverged ({str(error).splitlines()[0]}): {advice}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        leave()


def train(args) -> None:
    from detectron2.utils import comm

    from osal_detectron2.engine import ActiveLearningTrainer, log_banner, preview_next_round, setup_logs
    from osal_detectron2.evaluation.report import describe_run

    cfg = build_config(args)
    if args.dry_run or args.eval_only:
        trainer = ActiveLearningTrainer(cfg, resume=True, read_only=True)
        trainer.load_weights(resume=args.resume or args.dry_run)
        if args.dry_run:
            preview_next_round(trainer)
        else:
            trainer.evaluate_only()
        return
    with RunLock(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext():
        if comm.is_main_process():
            clean_temporary(cfg.OUTPUT_DIR)
        trainer = ActiveLearningTrainer(cfg, resume=args.resume)
        setup_logs(trainer)
        trainer.resume_or_load(resume=args.resume)
        log_banner(trainer)
        trainer.train()
        if comm.is_main_process():
            print(f"\n{describe_run(cfg.OUTPUT_DIR)}")


def run(argv=None) -> None:
    from detectron2.engine import launch

    args = parse_arguments(argv)
    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as stopped:  # a child has printed its error already
        raise SystemExit(stopped.exit_code or 1) from None


if __name__ == "__main__":
    run()
