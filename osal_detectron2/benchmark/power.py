"""How many pairs a comparison needs: power of the paired t-test, from the spread of the differences."""

import math


def power_of(pairs: int, *, effect: float, spread: float, alpha: float = 0.05) -> float:
    """The chance that the interval of a paired t-test excludes zero on the side of the effect.

    pairs: of seeds, tiles or slides. effect: true mean of the differences. spread: their standard deviation.
    By the noncentral t distribution (Cohen, Statistical Power Analysis, 1988, chapter 2).
    """
    from scipy import stats

    if pairs < 2:
        return 0.0
    if not spread:
        return 1.0 if effect else 0.0
    shift = abs(effect) / spread * math.sqrt(pairs)
    return float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, pairs - 1), pairs - 1, shift))


def pairs_needed(effect: float, spread: float, *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The fewest pairs with which an effect is seen with this power; None if 100,000 do not suffice.

    Raises ValueError for an effect of 0, or a power outside of (alpha, 1).
    """
    if not effect or not alpha < power < 1:
        raise ValueError(
            f"an effect other than 0 and a power between {alpha} and 1 are needed: {effect}, {power}"
        )
    low, high = 1, 2
    while power_of(high, effect=effect, spread=spread, alpha=alpha) < power:
        low, high = high, 2 * high
        if low > 100_000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of(middle, effect=effect, spread=spread, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def spread_at_most(spread: float, pairs: int, *, confidence: float = 0.8) -> float:
    """What the standard deviation is below with this confidence, where `pairs` normal differences had `spread`.

    A few pairs say little of the spread, and a study that is sized by a spread that came out small is too small
    (Browne, Statistics in Medicine 14:1933, 1995).
    """
    from scipy import stats

    return spread * math.sqrt((pairs - 1) / float(stats.chi2.ppf(1 - confidence, pairs - 1)))
