"""What the cells of a grid are, according to Detectron2's config; a process of its own, because that imports torch."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import ConfigError, OSALError
from .grid import Cell

PACKAGE = __package__.partition(".")[0]


def importable() -> dict[str, str]:
    """The environment for a Python that is to find this package, installed or not."""
    folders = [str(Path(__file__).resolve().parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def plan_cells(config: Path, cells: Sequence[Cell]) -> list[dict]:
    """One description a cell: {"strategy", "config_sha256", "recipe_sha256"}.

    Raises ConfigError naming the cells whose options make no config: a strategy that does not exist, an unknown key.
    """
    question = json.dumps({"config": str(config), "cells": [cell.options for cell in cells]})
    answer = subprocess.run(
        [sys.executable, "-W", "ignore::FutureWarning", "-m", f"{PACKAGE}.benchmark.plan"],
        input=question,
        stdout=subprocess.PIPE,
        text=True,
        env=importable(),
    )
    if answer.returncode:
        raise ConfigError(f"{config}: the configs of the grid could not be built; the error is above")
    plans = json.loads(answer.stdout)
    faults: dict[str, list[str]] = {}
    for cell, plan in zip(cells, plans):
        if "error" in plan:
            faults.setdefault(plan["error"], []).append(cell.id)
    if faults:
        raise ConfigError(
            "; ".join(f"{ids[0]} (and {len(ids) - 1} more cells): {fault}" for fault, ids in faults.items())
        )
    return plans


def describe(config: str, cells: Sequence[Sequence[str]]) -> list[dict]:
    """The answer of `plan_cells`, with {"error": message} for a cell that cannot run. Imports torch.

    config_sha256 covers every key that is not at its default and changes results (a key that a later version adds
    leaves it as it is), the names of the data sets or files, and no paths. Cells of one setting, fold and seed with the
    same recipe_sha256 train round 0 alike.
    """
    from detectron2.config import get_cfg

    from ..config import add_osal_config
    from ..engine.fingerprint import matching_config

    base = get_cfg()
    add_osal_config(base)
    default = matching_config(base)
    base.merge_from_file(config)
    plans = []
    for options in cells:
        cfg = base.clone()
        try:
            cfg.merge_from_list(list(options))
            plans.append(_describe(cfg, default))
        except OSALError as error:
            plans.append({"error": str(error)})
        except (AssertionError, KeyError, ValueError) as error:  # yacs: unknown key, wrong type
            plans.append({"error": f"{error.args[0]}; our keys are in osal_detectron2/config.py"})
    return plans


def _describe(cfg, default: dict) -> dict:
    from .. import registration  # noqa: F401  (the meta-architectures that strategies choose)
    from ..engine.fingerprint import matching_config
    from ..engine.plan import build_strategy
    from ..engine.recipe import training_config
    from ..engine.resolve import with_strategy
    from ..renamed import adopt_old_keys, first_names

    strategy, data = build_strategy(cfg), cfg.OSAL.DATA
    identity = {
        "config": {
            key: value
            for key, value in first_names(matching_config(cfg)).items()
            if value not in (default.get(key), first_names(default).get(key))
        },
        "strategy": strategy.name,
        "data": [
            *cfg.DATASETS.TRAIN,
            *cfg.DATASETS.TEST,
            Path(data.TRAIN_JSON).name,
            Path(data.TEST_JSON).name,
        ],
    }
    adopt_old_keys(cfg)  # not before: a grid's cells are known by the names that its file has
    cfg = with_strategy(cfg, strategy)
    return {
        "strategy": strategy.name,
        "config_sha256": _sha256(identity),
        "recipe_sha256": _sha256(training_config(cfg)),
    }


def _sha256(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    try:
        print(json.dumps(describe(asked["config"], asked["cells"])))
    except (OSALError, AssertionError, KeyError, ValueError, OSError) as fault:
        sys.exit(f"{asked['config']}: {fault}")
