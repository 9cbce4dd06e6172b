"""The order of a random draw, which also breaks ties."""

from collections.abc import Iterable

from osal_detectron2.core.seeding import tie_hash

from .detector import State


def shuffled(state: State, regions: Iterable[int]) -> list[int]:
    """In the order of Random: the same hash of seed, query and name."""
    return sorted(regions, key=lambda i: tie_hash(state.seed, state.step, state.scene.keys[i]))
