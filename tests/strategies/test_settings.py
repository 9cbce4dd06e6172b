"""The settings of strategies: a dataclass beside each, a config node made of it, and no list that names them all."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from detectron2.config import get_cfg

from osal_detectron2 import add_osal_config
from osal_detectron2.core.errors import ConfigError, LedgerError
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.engine.fingerprint import matching_config
from osal_detectron2.engine.plan import build_strategy
from osal_detectron2.engine.resolve import default_config
from osal_detectron2.engine.run_record import find_ledger
from osal_detectron2.renamed import RENAMED, adopt_old_keys
from osal_detectron2.strategies import available, get_strategy

ROOT = Path(__file__).resolve().parents[2]
WITH_SETTINGS = [name for name in available() if get_strategy(name).node]


def config():
    cfg = get_cfg()
    add_osal_config(cfg)
    return cfg


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_the_config_node_has_the_defaults_of_the_dataclass_and_reaches_the_strategy(name):
    cls, cfg = get_strategy(name), config()
    cfg.OSAL.STRATEGY = name
    assert build_strategy(cfg).settings == cls.Settings()
    for field in fields(cls.Settings):
        comment = rf"^    # .+\n(    # .+\n)*    {field.name}: "
        assert re.search(comment, inspect.getsource(cls.Settings), flags=re.M), f"{field.name} has no comment"


def test_a_setting_from_the_config_is_used():
    cfg = config()
    cfg.merge_from_list(["OSAL.STRATEGY", "cald", "OSAL.CALD.AUGS", "FG"])
    assert build_strategy(cfg).settings.views == ("hflip", "noise:16")
    cfg.merge_from_list(["OSAL.STRATEGY", "osal_nd", "OSAL.PCSS.COUNT_RULE", "best"])
    with pytest.raises(ConfigError, match="OSAL.PCSS.COUNT_RULE.*best.*proto"):
        build_strategy(cfg)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_goes_on_working(old, new):
    value = "per_class" if old.endswith("NMS") else 0.7
    cfg = config()
    cfg.merge_from_list([old, value])
    adopt_old_keys(cfg, default=config())
    node, name = cfg, new.split(".")
    for part in name:
        node = node[part]
    assert node == value
    assert old not in {key for key in flat(cfg)}


def test_an_old_and_a_new_key_with_different_values_are_refused():
    cfg = config()
    cfg.merge_from_list(["OSAL.UTSS.SCORE_THRESH", 0.5, "OSAL.SCORING.SCORE_THRESH", 0.4])
    with pytest.raises(ConfigError, match="OSAL.UTSS.SCORE_THRESH 0.5 and OSAL.SCORING.SCORE_THRESH 0.4"):
        adopt_old_keys(cfg, default=config())


def test_a_run_of_the_time_of_the_old_keys_goes_on(tmp_path):
    config = {**matching_config(default_config()), "plan": [1]}
    old_names = {new: old for old, new in RENAMED.items()}
    facts = {
        "strategy": "osal_nd",
        "seed": 0,
        "known_classes": ["a"],
        "pool": ["t"],
        "plan": [1],
        "versions": {},
    }
    written = {old_names.get(key, key): value for key, value in config.items()}
    Ledger.create(tmp_path, config=written, dataset_sha256="x", **facts)
    wanted = {"node": "PCSS", "resume": True, "read_only": False}
    assert find_ledger(tmp_path, facts={"config": config, "dataset_sha256": "x"}, **wanted)
    changed = {**config, "OSAL.AUXILIARY.SCORE_THRESH": 0.9}
    with pytest.raises(LedgerError, match="OSAL.AUXILIARY.SCORE_THRESH: 0.3 -> 0.9"):
        find_ledger(tmp_path, facts={"config": changed, "dataset_sha256": "x"}, **wanted)


def flat(node, prefix=""):
    for key, value in node.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key


MINIATURE = "tests/engine/test_variants.py"
DROPPED = '''
"""A strategy that a stranger drops into the folder."""

from dataclasses import dataclass

from .base import Pass, Selection, Strategy, register, require_pool


@dataclass(frozen=True)
class DroppedSettings:
    # Whether few detections come first.
    few: bool = True


@register
class Dropped(Strategy):
    """Tiles with fewest or most detections."""

    name = "dropped"
    needs = {"target": ()}
    Settings, node = DroppedSettings, "DROPPED"
    cost = {"target": "U"}

    def select(self, context):
        require_pool(context)
        table = yield Pass(over=context.pool)
        sign = -1.0 if self.settings.few else 1.0
        score = {k: sign * len(table[k]["scores"]) for k in context.pool}
        selected = tuple(context.rank(context.pool, score)[: context.size])
        return Selection(selected=selected, scores={"score": score}, reasons=dict.fromkeys(selected, "few"))
'''


def test_a_file_dropped_into_the_folder_is_a_strategy_with_its_key_its_contract_and_its_cost(tmp_path):
    """Copied elsewhere, so that nothing else sees it; the tests run there as they stand."""
    for folder in ("osal_detectron2", "tests", "tools", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "osal_detectron2/strategies/dropped.py").write_text(DROPPED.lstrip())
    files = [
        "tests/strategies/test_strategies.py",
        "tests/strategies/test_settings.py",
        "tests/engine/test_variants.py",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-vv",
            "-k",
            "[dropped]",
            *files,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    for taken_up in (
        "TestContract::test_subset",
        "has_the_defaults",
        "runs_from_the_same_config_at_its_cost",
    ):
        assert re.search(rf"{taken_up}\w*\[dropped\] PASSED", done.stdout), (
            f"{taken_up}\n{done.stdout[-3000:]}"
        )
