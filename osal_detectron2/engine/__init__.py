"""The rounds inside a Detectron2 trainer."""

from .hooks import ActiveLearningHook
from .people import AwaitingLabels
from .preview import preview_next_round
from .round_steps import RoundSteps
from .trainer import ActiveLearningTrainer, log_banner, setup_logs

__all__ = [
    "ActiveLearningHook",
    "ActiveLearningTrainer",
    "AwaitingLabels",
    "RoundSteps",
    "log_banner",
    "preview_next_round",
    "setup_logs",
]
