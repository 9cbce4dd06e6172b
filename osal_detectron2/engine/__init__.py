"""The rounds inside a Detectron2 trainer."""

from .hooks import ActiveLearningHook
from .people import AwaitingLabels
from .preview import preview_next_round
from .round_steps import RoundSteps
from .round_trainer import RoundTrainer, log_banner, setup_logs
from .session import Session
from .trainer import ActiveLearningTrainer

__all__ = [
    "ActiveLearningHook",
    "ActiveLearningTrainer",
    "AwaitingLabels",
    "RoundSteps",
    "RoundTrainer",
    "Session",
    "log_banner",
    "preview_next_round",
    "setup_logs",
]
