"""Who answers: the labels hidden in the data set (`simulated`), with errors (`imperfect`), or people (`people`)."""

from . import imperfect, people, simulated  # noqa: F401  (they register)
from .base import Oracle, Pending, Question, get_oracle, register

__all__ = ["Oracle", "Pending", "Question", "get_oracle", "register"]
