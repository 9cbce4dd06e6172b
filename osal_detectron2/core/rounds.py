"""What the rounds of a run are called, which follows which, and how many tiles each may select."""

from collections.abc import Sequence

INIT = "init"  # the initial labelled set: before round 0, without training


def round_name(round_index: str | int) -> str:
    """The folder of a round below rounds/: "init", "000", "001", ..."""
    if round_index == INIT:
        return INIT
    if isinstance(round_index, bool) or not isinstance(round_index, int) or round_index < 0:
        raise ValueError(f"a round is {INIT!r} or 0, 1, 2, ..., not {round_index!r}")
    return f"{round_index:03d}"


def next_round(last: str | int | None) -> str | int:
    """The round after `last`: None -> "init" -> 0 -> 1 ..."""
    if last is None:
        return INIT
    return 0 if isinstance(last, str) else last + 1


def budget_of(plan: Sequence[int], round_index: str | int) -> int:
    """Tiles that `round_index` may select; `plan` holds the labelled tiles of each round. 0 for the last round."""
    if isinstance(round_index, str):
        return plan[0]
    return plan[round_index + 1] - plan[round_index] if round_index + 1 < len(plan) else 0


def first_duplicate(keys: Sequence[str]) -> str | None:
    """The first of `keys` that stands there twice."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None
