"""How many tiles are labelled in each round, and which iterations each round runs."""

from bisect import bisect_right
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import ceil

from .errors import ConfigError


def tiles(fraction: float, total: int) -> int:
    """`fraction` of `total` tiles, halves rounded up, at least one (docs/reproducibility.md 1.1: round(0.05 T)).

    Decimal arithmetic: 0.29 * 50 is 14.5 here, while binary floats give 14.499999999999998.
    Raises ConfigError unless 0 < fraction <= 1 and total >= 1.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"a fraction of the training tiles must be above 0 and at most 1, not {fraction}")
    if total < 1:
        raise ConfigError("the training set has no tiles: check OSAL.DATA.TRAIN_JSON or DATASETS.TRAIN")
    exact = Decimal(repr(float(fraction))) * total
    return max(1, int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)))


@dataclass(frozen=True)
class RoundSchedule:
    """Round r trains on `labelled[r]` tiles and ends when `boundaries[r]` iterations are complete.

    The detector is trained `num_rounds` times; every round but the last ends with a query.
    """

    labelled: tuple[int, ...]
    boundaries: tuple[int, ...]

    @classmethod
    def plan(
        cls, *, total: int, init: int, query: int, num_queries: int, epochs: float, min_iters: int, batch: int
    ) -> "RoundSchedule":
        """Plan for a pool of `total` tiles: `init` first, then `query` more a round (docs/reproducibility.md 1.7).

        The last query takes what is left of the pool, and no round is planned after it.
        iterations(r) = max(min_iters, ceil(epochs * labelled[r] / batch)).
        Raises ConfigError, naming the key, for numbers that make no plan.
        """
        if total < 1:
            raise ConfigError("the training set has no tiles: check OSAL.DATA.TRAIN_JSON or DATASETS.TRAIN")
        if not 1 <= init <= total:
            raise ConfigError(
                f"OSAL.BUDGET: {init} initial tiles do not fit a training set of {total}; "
                "set INIT_TILES or INIT_FRACTION (INIT, in nuclei or seconds) so that it is between 1 and that number"
            )
        if num_queries < 0:
            raise ConfigError(f"OSAL.BUDGET.NUM_QUERIES must not be negative, but is {num_queries}")
        if num_queries and query < 1:
            raise ConfigError(
                f"OSAL.BUDGET.QUERY_TILES: a query of {query} tiles asks for nothing; use 1 or more"
            )
        if not epochs >= 0 or epochs == float("inf"):
            raise ConfigError(f"OSAL.SCHEDULE.EPOCHS must be a number from 0 up, but is {epochs}")
        if batch < 1:
            raise ConfigError(f"SOLVER.IMS_PER_BATCH must be 1 or more, but is {batch}")

        labelled = [init]
        while len(labelled) <= num_queries and labelled[-1] < total:
            labelled.append(min(total, labelled[-1] + query))
        boundaries, end = [], 0
        exact_epochs = Fraction(repr(float(epochs)))  # ceil() of a float product can be one too high
        for count in labelled:
            end += max(1, min_iters, ceil(exact_epochs * count / batch))
            boundaries.append(end)
        return cls(labelled=tuple(labelled), boundaries=tuple(boundaries))

    @property
    def num_rounds(self) -> int:
        """Times that the detector is trained: queries + 1."""
        return len(self.labelled)

    @property
    def max_iter(self) -> int:
        """Iterations of the whole run (SOLVER.MAX_ITER)."""
        return self.boundaries[-1]

    def iterations(self, round_index: int) -> int:
        """Iterations of one round."""
        return self.boundaries[round_index] - self.start(round_index)

    def start(self, round_index: int) -> int:
        """The first (0-based) iteration of one round."""
        return self.boundaries[round_index - 1] if round_index else 0

    def locate(self, iteration: int) -> tuple[int, int, int]:
        """(round, start, length) of the round that runs the 0-based `iteration` in [start, start + length).

        Raises ValueError outside [0, max_iter): a finished run has no round to run.
        """
        if not 0 <= iteration < self.max_iter:
            raise ValueError(f"iteration {iteration} is outside the schedule of {self.max_iter} iterations")
        round_index = bisect_right(self.boundaries, iteration)
        return round_index, self.start(round_index), self.iterations(round_index)

    def is_boundary(self, completed_iterations: int) -> int | None:
        """The round that ends when so many iterations are complete, or None in the middle of a round."""
        return (
            self.boundaries.index(completed_iterations) if completed_iterations in self.boundaries else None
        )
