"""What a run tells: short lines on the screen, everything in log.txt."""

import logging
import os
import sys
import time
from collections.abc import Mapping

from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage
from detectron2.utils.logger import setup_logger

from ..core.budget import TILES, amount
from ..core.errors import OSALError
from ..dist import on_main
from ..scoring.forward import clock

_SHORT = {"osal_detectron2": "osal", "detectron2": "d2"}
_ON_SCREEN = ("osal_detectron2", "detectron2.checkpoint", "fvcore.common.checkpoint")
_WINDOW = 200  # iterations whose mean is the speed
_PER_PASS = 0.2  # of what a training step of both detectors takes for a tile: one detector's inference


class ScreenWriter(EventWriter):
    """One short line about the training: round, iteration, losses, learning rate, and when the whole run will be over.

    trainer: a `RoundTrainer`. every: seconds between two lines, at least. Detectron2's own lines, with each loss, are
    in log.txt. Main process only.
    """

    def __init__(self, trainer, *, every: float = 20.0) -> None:
        self.trainer, self.every = trainer, every
        self.logger = logging.getLogger(__name__)
        self._last = float("-inf")

    def write(self) -> None:
        storage, schedule = get_event_storage(), self.trainer.schedule
        done = storage.iter + 1
        # Detectron2 calls once more after the training, and where a run stopped before its first step.
        if storage.iter >= self.trainer.max_iter or "lr" not in storage.histories():
            return
        left = self.seconds_left(done)
        if left is not None:
            storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        if time.monotonic() - self._last < self.every and done < self.trainer.max_iter:
            return
        self._last = time.monotonic()
        number, start, length = schedule.locate(storage.iter)
        self.logger.info(
            "round %d of %d, %d/%d: %s, lr %.3g, ETA %s",
            number,
            schedule.num_rounds - 1,
            done - start,
            length,
            _losses(storage),
            storage.history("lr").latest(),
            "unknown yet" if left is None else clock(left),
        )

    def seconds_left(self, done: int) -> float | None:
        """Of the whole run after `done` iterations: training, evaluations and queries. None before any is measured."""
        history = get_event_storage().histories().get("time")
        if history is None:
            return None
        a_step = history.avg(_WINDOW)
        schedule, session = self.trainer.schedule, self.trainer.session
        if done >= schedule.max_iter:
            return 0.0
        number = schedule.locate(done)[0]
        measured = self.trainer.steps.timing(number - 1) if number else {}
        a_pass = _PER_PASS * a_step / session.batch_size
        evaluation = measured.get("evaluate", a_pass * len(session.plan.test))
        query = measured.get("query", a_pass * len(session.plan.train))
        rounds = schedule.num_rounds - number
        return (schedule.max_iter - done) * a_step + rounds * evaluation + (rounds - 1) * query


def setup_logs(trainer) -> None:
    """Log to the screen and to log.txt of the run."""
    for name in ("fvcore", "detectron2", "osal_detectron2"):
        logger = setup_logger(
            trainer.output_dir, distributed_rank=comm.get_rank(), name=name, abbrev_name=_SHORT.get(name)
        )
        for handler in logger.handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.setFormatter(_ScreenFormatter(datefmt="%H:%M:%S"))
                handler.addFilter(_on_screen)
    # The tool prints an OSALError in one line; Detectron2's loop would log its traceback first.
    logging.getLogger("detectron2.engine.train_loop").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], OSALError))
    )


def log_banner(trainer) -> None:
    """Say where the run stands, before it goes on."""
    completed = trainer.start_iter
    labelled = on_main(lambda: len(trainer.steps.ledger.labelled_keys()))
    if completed < trainer.max_iter:
        round_index, start, length = trainer.schedule.locate(completed)
        where = (
            f"round {round_index} of {trainer.steps.last_round}, iteration {completed - start} of {length}"
        )
    else:
        where = "all rounds are trained"
    logging.getLogger(__name__).info(
        "%s %s: %s, %d tiles labelled, %s",
        "resuming" if completed else "starting",
        os.path.abspath(trainer.output_dir),
        where,
        labelled,
        f"strategy {trainer.steps.strategy.name}, {_planned(trainer.steps)}",
    )
    if completed < trainer.max_iter:
        logging.getLogger(__name__).info("ETA: of the whole run. Each loss and more: log.txt in that folder")


def _planned(steps) -> str:
    budget = steps.plan.budget
    if budget.unit == TILES:
        return f"labelled tiles per round {list(steps.schedule.labelled)}"
    return (
        f"{amount(budget.init, budget.unit)} at first and {amount(budget.query, budget.unit)} in each query"
    )


def starting_weights(settings: Mapping) -> str:
    """A sentence: which weights a run with flat `settings` and without MODEL.WEIGHTS starts from."""
    files = {
        key: value
        for key, value in settings.items()
        if key.lower().endswith("weights") and isinstance(value, str) and value and key != "MODEL.WEIGHTS"
    }
    if not files:
        return "no weights are given: the training starts from random ones"
    return f"weights of the backbone from {', '.join(files.values())}; all others start from random ones"


def _losses(storage) -> str:
    """The losses as two sums, "loss 1.52 target + 1.68 auxiliary", or one where there is one detector."""
    sums: dict[str, float] = {}
    for name, history in storage.histories().items():
        if "loss" in name and name != "total_loss":
            part = name.rpartition("/")[0]
            sums[part] = sums.get(part, 0.0) + history.median(storage.count_samples(name, 20))
    return "loss " + " + ".join(f"{value:.3g} {part}".strip() for part, value in sums.items())


def _on_screen(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.startswith(_ON_SCREEN)


class _ScreenFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        text = f"[{self.formatTime(record, self.datefmt)}] {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
