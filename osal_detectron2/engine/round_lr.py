"""A learning rate that restarts every round, as a pure function of the iteration.

Rebuilding a scheduler at each round would make a resumed run differ from an uninterrupted one.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from fvcore.common.param_scheduler import ParamScheduler

from ..core.errors import ConfigError, check_choice
from ..core.schedule import RoundSchedule

LR_SHAPES = ("step", "cosine")


class RoundLR(ParamScheduler):
    """Multiplier of the base learning rate, for `detectron2.solver.LRMultiplier`.

    Args:
        schedule: boundaries of the rounds, in iterations.
        shape: "step" multiplies by `gamma` at each of `steps`; "cosine" falls to zero at the end of the round.
        steps: fractions of the round in (0, 1), ascending.
        warmup_iters: linear warm-up from `warmup_factor`, shortened to a fifth of the round where it is longer.
    """

    def __init__(
        self,
        schedule: RoundSchedule,
        *,
        shape: str = "step",
        steps: Sequence[float] = (0.7, 0.9),
        gamma: float = 0.1,
        warmup_iters: int = 0,
        warmup_factor: float = 0.001,
    ) -> None:
        check_choice("OSAL.SCHEDULE.LR", shape, LR_SHAPES)
        if list(steps) != sorted(steps) or any(not 0 < s < 1 for s in steps):
            raise ConfigError(f"OSAL.SCHEDULE.LR_STEPS: {tuple(steps)} must ascend within (0, 1)")
        self.schedule = schedule
        self.shape, self.steps, self.gamma = shape, tuple(steps), gamma
        self.warmup_iters, self.warmup_factor = warmup_iters, warmup_factor

    def at(self, iteration: int) -> float:
        """Multiplier at a 0-based iteration of the whole run."""
        iteration = min(iteration, self.schedule.max_iter - 1)
        _, start, length = self.schedule.locate(iteration)
        done = iteration - start
        if self.shape == "cosine":
            value = 0.5 * (1 + math.cos(math.pi * done / length))
        else:
            value = self.gamma ** bisect_right(self.steps, done / length)
        warmup = min(self.warmup_iters, length // 5)
        if done < warmup:
            value *= self.warmup_factor + (1 - self.warmup_factor) * done / warmup
        return value

    def __call__(self, where: float) -> float:
        return self.at(round(where * self.schedule.max_iter))
