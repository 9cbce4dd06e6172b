"""What the training tools have in common: options, launch over processes, and one line for an error."""

import argparse
import logging
import multiprocessing
import shlex
import sys
from contextlib import nullcontext

from detectron2.engine import launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from ..core.errors import DataError, OSALError, OutputError
from ..core.ledger import Ledger
from ..core.lock import RunLock
from ..core.run_config import YAML
from ..core.store import clean_temporary
from ..core.trust import add_trust
from ..dist import join, leave, started_by_torchrun
from ..evaluation.report import describe_run
from .awaiting import AwaitingLabels
from .fronts import prepare
from .logs import log_banner, setup_logs
from .preview import preview_next_round

INTERRUPTED = 130  # the exit code of shells for SIGINT


def argument_parser(description: str, *, front: str) -> argparse.ArgumentParser:
    """Detectron2's options and ours; `parse_intermixed_args` takes them before and behind the words."""
    parser = argparse.ArgumentParser(
        epilog=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="the config; a run that goes on knows its own"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in OUTPUT_DIR, or start it if there is none"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the next round would query, why, and what it would cost; train and write nothing",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate one checkpoint; write nothing")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="how many machines")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="I", help="which of them this is")
    parser.add_argument("--dist-url", default="auto", metavar="URL", help="where the processes meet")
    add_trust(parser)
    words = "KEY VALUE" if front == YAML else "KEY=VALUE"
    parser.add_argument("opts", nargs="*", metavar=words, help="changes of the config")
    parser.set_defaults(front=front)
    return parser


def run(args: argparse.Namespace) -> None:
    """Start the processes that `args` ask for and run in each of them. Raises SystemExit for anything but success.

    Under torchrun the processes are there already.
    """
    if started_by_torchrun():
        join()
        main(args)
        return
    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
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


def main(args: argparse.Namespace) -> None:
    """Runs in every process."""
    try:
        train(args)
        comm.synchronize()  # a rank that leaves early would cut off one that still waits for a message
    except AwaitingLabels:  # the message is printed; this is the end that was meant
        pass
    except OSALError as error:
        # Errors that a data loader's worker met carry its traceback in front.
        # Every process finds the same fault in a config; only data may be bad in one process alone.
        if comm.is_main_process() or (isinstance(error, DataError) and getattr(error, "on_rank_0", True)):
            text = str(error).rsplit("Error: ", 1)[-1].strip()
            if isinstance(error, OutputError) and getattr(args, "begun", False) and "--resume" not in text:
                text += ", with --resume: the run has begun, and nothing of it is lost"
            print(f"error: {text}", file=sys.stderr)
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


def train(args: argparse.Namespace) -> None:
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
    with RunLock(output_dir) if comm.is_main_process() else nullcontext() as lock:
        if comm.is_main_process():
            clean_temporary(output_dir)
        kept = KeptRecords()  # what is said before there is a log
        try:
            trainer = make_trainer(resume=args.resume)
            trainer.resume_or_load(resume=args.resume)
            trainer.begin()
        except BaseException:
            if lock is not None and not Ledger.exists(output_dir):
                lock.withdraw()
            raise
        finally:
            kept.detach()
            args.begun = Ledger.exists(output_dir)  # for an error's advice
        setup_logs(trainer)
        kept.replay()
        log_banner(trainer)
        trainer.train()
        if comm.is_main_process():
            print(f"\n{describe_run(output_dir)}")


class KeptRecords(logging.Handler):
    """Keeps what our loggers say before the run folder may be touched, to say it again once there is a log."""

    names = ("fvcore", "detectron2", "osal_detectron2")

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self.records, self.levels = [], {}
        for name in self.names:
            logger = logging.getLogger(name)
            if not logger.handlers:  # else the log of an earlier run in this process has them
                self.levels[name] = logger.level
                logger.setLevel(logging.INFO)
                logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def detach(self) -> None:
        for name, level in self.levels.items():
            logging.getLogger(name).removeHandler(self)
            logging.getLogger(name).setLevel(level)

    def replay(self) -> None:
        for record in self.records:
            logging.getLogger(record.name).handle(record)
