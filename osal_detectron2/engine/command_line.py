"""What the training tools have in common: options, launch over processes, and one line for an error."""

import argparse
import multiprocessing
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext

from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from ..core.errors import DataError, OSALError
from ..core.lock import RunLock
from ..core.store import clean_temporary
from ..dist import join, leave, started_by_torchrun
from ..evaluation.report import describe_run
from .logs import log_banner, setup_logs
from .people import AwaitingLabels
from .preview import preview_next_round
from .round_trainer import RoundTrainer

# (arguments) -> OUTPUT_DIR and a function (resume=bool, read_only=bool) -> trainer; raises ConfigError.
Prepare = Callable[[argparse.Namespace], tuple[str, Callable[..., RoundTrainer]]]

INTERRUPTED = 130  # the exit code of shells for SIGINT


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Detectron2's options and --dry-run."""
    parser = default_argument_parser(epilog=description)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the next round would query, why, and what it would cost; train and write nothing",
    )
    parser.set_defaults(dist_url="auto")
    return parser


def run(args: argparse.Namespace, prepare: Prepare) -> None:
    """Start the processes that `args` ask for and run in each of them. Raises SystemExit for anything but success.

    Under torchrun the processes are there already. `prepare` is a function of a module, since processes get it by name.
    """
    if started_by_torchrun():
        join()
        main(args, prepare)
        return
    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, prepare),
        )
    except ProcessExitedException as stopped:
        if stopped.exit_code == INTERRUPTED:
            _say_interrupted()
        if stopped.signal_name is None:  # the process has printed its error already
            raise SystemExit(stopped.exit_code or 1) from None
        print(
            f"error: process {stopped.error_index} of {args.num_gpus} was killed ({stopped.signal_name}; where nobody "
            "did it, memory ran out: see SOLVER.IMS_PER_BATCH, DATALOADER.NUM_WORKERS). Go on with --resume",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # of several processes; a single one has said so in `main`
        for process in multiprocessing.active_children():
            process.terminate()
        _say_interrupted()
        raise SystemExit(INTERRUPTED) from None


def main(args: argparse.Namespace, prepare: Prepare) -> None:
    """Runs in every process."""
    try:
        train(args, prepare)
        comm.synchronize()  # a rank that leaves early would cut off one that still waits for a message
    except AwaitingLabels:  # the message is printed; this is the end that was meant
        pass
    except OSALError as error:
        # Errors that a data loader's worker met carry its traceback in front.
        # Every process finds the same fault in a config; only data may be bad in one process alone.
        if comm.is_main_process() or (isinstance(error, DataError) and getattr(error, "on_rank_0", True)):
            print(f"error: {str(error).rsplit('Error: ', 1)[-1].strip()}", file=sys.stderr)
        raise SystemExit(1) from None
    except FloatingPointError as error:
        advice = (
            "lower the learning rate, lengthen its warm-up or enable gradient clipping, in a new OUTPUT_DIR"
        )
        print(f"error: the training diverged ({str(error).splitlines()[0]}): {advice}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        if multiprocessing.parent_process() is None and comm.is_main_process():
            _say_interrupted()
        raise SystemExit(INTERRUPTED) from None
    finally:
        leave()


def _say_interrupted() -> None:
    words = [word for word in sys.argv if word != "--resume"]
    command = shlex.join(["python", words[0], "--resume", *words[1:]])
    print(f"stopped by Ctrl-C. Go on where it was: {command}", file=sys.stderr)


def train(args: argparse.Namespace, prepare: Prepare) -> None:
    """Train all rounds that are left, or only look (--dry-run, --eval-only). Collective."""
    output_dir, make_trainer = prepare(args)
    if args.dry_run or args.eval_only:
        trainer = make_trainer(resume=True, read_only=True)
        trainer.load_weights(resume=args.resume or args.dry_run)
        if args.dry_run:
            preview_next_round(trainer)
        else:
            trainer.evaluate_only()
        return
    with RunLock(output_dir) if comm.is_main_process() else nullcontext():
        if comm.is_main_process():
            clean_temporary(output_dir)
        trainer = make_trainer(resume=args.resume)
        setup_logs(trainer)
        trainer.resume_or_load(resume=args.resume)
        log_banner(trainer)
        trainer.train()
        if comm.is_main_process():
            print(f"\n{describe_run(output_dir)}")
