"""A run may start from the round-0 detector of another run, where both would train the same.

Round 0 trains on the initial tiles, before any query, so strategies with the same detectors and recipe share it
(docs/reproducibility.md 4). The file is the checkpoint of the end of that round (`OSAL.SCHEDULE.KEEP_ROUNDS`); a run
adopts it by taking it for a boundary checkpoint of its own: from there on it goes on as after a kill at that point.
"""

import json
import logging
from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode

from ..core.errors import ConfigError
from ..renamed import renamed
from ..strategies import query_nodes
from .fingerprint import data_sha256, matching_config
from .resolve import default_config

# What decides about queries and nothing about training. Each strategy's own node comes on top.
_SELECTION = (
    "OSAL.STRATEGY", "OSAL.SCORING.", "OSAL.AUXILIARY.SCORE_THRESH", "OSAL.AUXILIARY.NMS", "OSAL.EVAL.",
    "OSAL.PROTOTYPE.REFIT",
)  # fmt: skip


def training_config(cfg: CfgNode) -> dict:
    """Flat {key: value} of everything in a resolved config that changes what a round trains."""
    return training_keys(matching_config(cfg))


def training_keys(config: Mapping) -> dict:
    """Of a flat config those keys that change what a round trains.

    The node of a strategy counts as training where the strategy brings detectors of its own (`overrides`).
    """
    selection = _SELECTION + tuple(f"OSAL.{node}." for node in query_nodes())
    return {k: v for k, v in config.items() if not k.startswith(selection)}


def recipe(config: Mapping, *, round_index: int, records: Sequence[dict]) -> dict:
    """What the detector of a round follows from: `training_keys`, the round, and its labelled tiles by hash."""
    return {**training_keys(config), "round": round_index, "labelled tiles": data_sha256(records)}


def check_recipe(path: str, found: str, mine: Mapping) -> None:
    """Raises ConfigError naming every key in which the JSON `found` in the file `path` differs from `mine`.

    A key that the file lacks, because it is newer, has its default there.
    """
    recorded, mine = renamed(json.loads(found)), json.loads(json.dumps(mine))
    theirs = json.loads(json.dumps(matching_config(default_config()))) | recorded
    missing = "(not set)"
    changed = [
        f"{key}: {theirs.get(key, missing)} -> {mine[key]}"
        for key in sorted(mine)
        if theirs.get(key, missing) != mine[key]
    ] + [f"{key}: {theirs[key]} -> {missing}" for key in sorted(recorded.keys() - mine.keys())]
    if changed:
        raise ConfigError(
            f"OSAL.SCHEDULE.ROUND_0: {path} comes from another recipe ({'; '.join(changed)}); "
            "give the file of a run that differs in the strategy alone, or '' to train round 0"
        )
    logging.getLogger(__name__).info("round 0 is not trained: its detector comes from %s", path)
