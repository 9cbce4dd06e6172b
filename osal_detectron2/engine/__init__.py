"""The rounds inside a Detectron2 trainer."""

from .awaiting import AwaitingLabels
from .checkpoint import AtomicCheckpointer
from .hooks import ActiveLearningHook
from .logs import log_banner, setup_logs
from .plain_loop import batches_of_rounds
from .preview import preview_next_round
from .round_steps import RoundSteps
from .session import Session
from .trainer import ActiveLearningTrainer, RoundTrainer

__all__ = [
    "ActiveLearningHook", "ActiveLearningTrainer", "AtomicCheckpointer", "AwaitingLabels", "RoundSteps", "RoundTrainer",
    "Session", "batches_of_rounds", "log_banner", "preview_next_round", "setup_logs",
]  # fmt: skip
