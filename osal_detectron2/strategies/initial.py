"""The tiles that a run starts from, before there is a detector to ask: no strategy, and the same for every one."""

from collections.abc import Iterable, Sequence

from ..core.seeding import tie_hash
from .base import Selection

_TIE_ROUND = -1  # of no query


def initial_set(pool: Iterable[str], *, size: int, seed: int, given: Sequence[str] = ()) -> Selection:
    """The tiles `given`, or `size` tiles of `pool` by a draw that depends on the seed alone."""
    if given:
        return Selection(selected=tuple(given), reasons=dict.fromkeys(given, "named in INIT_FILE"))
    chosen = tuple(sorted(pool, key=lambda k: tie_hash(seed, _TIE_ROUND, k))[:size])
    return Selection(selected=chosen, reasons=dict.fromkeys(chosen, "initial random draw"))
