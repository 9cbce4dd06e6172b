"""What `osal train` and `osal lazy` do: launch over processes, train or look, and one line for an error."""

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
from ..core.spelling import spelled
from ..core.store import clean_temporary
from ..dist import join, leave, started_by_torchrun
from ..evaluation.report import describe_run
from ..quiet import quiet
from .awaiting import AwaitingLabels
from .fronts import prepare
from .logs import log_banner, setup_logs
from .preview import preview_next_round

INTERRUPTED = 130  # the exit code of shells for SIGINT


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
            _say_interrupted(args)
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
        _say_interrupted(args)
        raise SystemExit(INTERRUPTED) from None


def main(args: argparse.Namespace) -> None:
    """Runs in every process."""
    quiet()
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
            print(f"error: {spelled(text)}", file=sys.stderr)
        raise SystemExit(1) from None
    except FloatingPointError as error:
        advice = (
            "lower the learning rate, lengthen its warm-up or enable gradient clipping, in a new OUTPUT_DIR"
        )
        print(f"error: the training diverged ({str(error).splitlines()[0]}): {advice}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        if multiprocessing.parent_process() is None and comm.is_main_process():
            _say_interrupted(args)
        raise SystemExit(INTERRUPTED) from None
    finally:
        leave()


def _say_interrupted(args: argparse.Namespace) -> None:
    words = shlex.join(["--resume", *(word for word in args.words if word != "--resume")])
    print(f"stopped by Ctrl-C. Go on where it was: {args.command} {words}", file=sys.stderr)


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
            print(f"\n{spelled(describe_run(output_dir))}")


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
