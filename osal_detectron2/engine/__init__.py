"""The rounds inside a Detectron2 trainer."""

from .hooks import ActiveLearningHook
from .preview import preview_next_round
from .round_steps import AwaitingLabels, RoundSteps
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
