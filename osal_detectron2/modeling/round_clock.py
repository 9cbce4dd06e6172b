"""How far the round is: what warm-ups, annealing and detaching are fractions of."""

import torch
from torch import nn


class RoundClock(nn.Module):
    """Base of a module whose training depends on how much of a round has passed.

    The hook of the rounds sets the clock when a round begins or goes on after a kill, whatever becomes of the weights
    (OSAL.SCHEDULE.WEIGHTS_PER_ROUND); in between the module counts the batches that it sees in `steps` (a buffer).
    """

    def __init__(self, *, round_iters: int = 0) -> None:
        """round_iters: batches of the round, until `set_clock` says otherwise; 0 if not known."""
        super().__init__()
        self.round_iters = round_iters
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def set_clock(self, *, round_iters: int, step: int) -> None:
        """A round of `round_iters` batches of which `step` have passed."""
        self.round_iters = round_iters
        self.steps.fill_(step)

    def forget(self) -> None:
        """Go back to what the module was before it saw any batch, where that is not a matter of weights alone."""
