"""One step of a greedy choice that computes few of the values it chooses by (Minoux 1978)."""

from collections.abc import Callable

import numpy as np


def first_largest(upper: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> int:
    """Index of the first of the largest values, where `upper` (n,) is at least the value everywhere.

    Values are equal if they round to the same 1e-5, as in context.rank, so that the noise of float32 kernels decides
    nothing. `value` computes those of some indices (k,); it is asked for the ones that may be largest or equal to it,
    and they replace their bounds in `upper`. A bound that is NaN excludes nothing.
    """
    largest = np.array([np.argmax(upper)])
    upper[largest] = value(largest)
    # A bound that is a value of before may miss by an ulp: no logarithm is promised to be monotone to the last digit.
    rivals = np.flatnonzero(~((upper + 1e-9).round(5) < upper[largest].round(5)))
    upper[rivals] = value(rivals)
    return int(rivals[np.argmax(upper[rivals].round(5))])
