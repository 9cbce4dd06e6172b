"""What a run starts from, made of a config. A `Plan` can also be made by hand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from ..core.annotation_cost import AnnotationCost
from ..core.budget import NUCLEI_PER_TILE, TILES, UNITS, Budget
from ..core.errors import ConfigError, check_choice
from ..core.schedule import RoundSchedule, tiles
from ..data.coco import register_from_config
from ..oracles import get_oracle
from ..scoring.box_set import needs_for_known_boxes
from ..strategies import Strategy, get_strategy
from .fingerprint import count_nuclei


@dataclass(frozen=True)
class Plan:
    """What a run starts from: data (records of data/coco.py), classes, budget and strategy. Nothing is built yet.

    `test` is [] where there is no test set.
    """

    train: list[dict]
    test: list[dict]
    known_classes: list[str]
    class_names: list[str]
    init_keys: list[str]
    schedule: RoundSchedule
    query_tiles: int
    strategy: Strategy
    budget: Budget = Budget()

    @property
    def unknown_classes(self) -> list[str]:
        """The class names that are not known."""
        return self.class_names[len(self.known_classes) :]


def build_plan(cfg: CfgNode) -> Plan:
    """The plan that cfg.OSAL, cfg.DATASETS and cfg.SOLVER.IMS_PER_BATCH ask for. Writes nothing."""
    train, test, known, class_names = load_data(cfg)
    if get_oracle(cfg.OSAL.ORACLE.NAME).from_data and not any(r["annotations"] for r in train):
        raise ConfigError(
            f"{cfg.OSAL.DATA.TRAIN_JSON or cfg.DATASETS.TRAIN[0]}: no tile has an annotation, so nothing can play the "
            "annotator; let people label (OSAL.ORACLE.NAME human), or give the labelled JSON"
        )
    init_keys = initial_keys(cfg, train)
    budget = build_budget(cfg, train=train, init=len(init_keys))
    schedule, query = build_schedule(cfg, budget, total=len(train), init=len(init_keys))
    return Plan(train, test, known, class_names, init_keys, schedule, query, build_strategy(cfg), budget)


def load_data(cfg: CfgNode) -> tuple[list[dict], list[dict], list[str], list[str]]:
    """(training records, test records, known classes, all class names) of the data sets that `cfg` names."""
    train_name, test_name = register_from_config(cfg)
    train, test = DatasetCatalog.get(train_name), DatasetCatalog.get(test_name) if test_name else []
    metadata = MetadataCatalog.get(train_name)
    known = list(metadata.known_classes)
    return train, test, known, [*known, *metadata.unknown_classes]


def build_strategy(cfg: CfgNode) -> Strategy:
    """The strategy OSAL.STRATEGY with the settings of its node, and an auxiliary if OSAL.SCORING wants one."""
    cls = get_strategy(cfg.OSAL.STRATEGY)
    keys = [field.name for field in fields(cls.Settings)]
    strategy = cls(**{key: cfg.OSAL[cls.node][key.upper()] for key in keys})
    if cfg.OSAL.SCORING.KNOWN_BOXES_ONLY:
        strategy.needs = needs_for_known_boxes(strategy.needs)
    return strategy


def initial_keys(cfg: CfgNode, train: Sequence[dict]) -> list[str]:
    """The tiles of OSAL.BUDGET.INIT_FILE, or []. Raises ConfigError naming the file and the line."""
    path = cfg.OSAL.BUDGET.INIT_FILE
    if not path:
        return []
    if not Path(path).is_file():
        raise ConfigError(
            f"OSAL.BUDGET.INIT_FILE: {path} is not a file; give a text file with one tile a line"
        )
    present = {r["image_key"] for r in train}
    keys: list[str] = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        key = line.strip()
        if key and key not in present:
            raise ConfigError(f"{path}, line {number}: {key!r} is not a tile of the training set")
        if key in keys:
            raise ConfigError(f"{path}, line {number}: {key!r} is named twice")
        if key:
            keys.append(key)
    if not keys:
        raise ConfigError(f"{path}: names no tile")
    return keys


def build_budget(cfg: CfgNode, *, train: Sequence[dict], init: int = 0) -> Budget:
    """What cfg.OSAL.BUDGET allows, in its unit; `init`: initial tiles that are given."""
    node, total = cfg.OSAL.BUDGET, len(train)
    check_choice("OSAL.BUDGET.UNIT", node.UNIT, UNITS)
    for key in ("INIT", "QUERY", "NUCLEI_PER_TILE"):
        if not 0 <= node[key] < float("inf"):
            raise ConfigError(f"OSAL.BUDGET.{key} must be a number from 0 up, but is {node[key]}")
    counted = sum(count_nuclei(train, num_known=0).values()) / total if total else 0.0
    told = counted if get_oracle(cfg.OSAL.ORACLE.NAME).from_data else NUCLEI_PER_TILE
    cost = AnnotationCost.of_settings(cfg.OSAL.ORACLE)
    budget = Budget(node.UNIT, cost=cost, nuclei_per_tile=node.NUCLEI_PER_TILE or told)
    if not budget.price_of_a_tile > 0:
        raise ConfigError(
            f"OSAL.BUDGET.UNIT {node.UNIT}: a tile costs nothing; set OSAL.ORACLE.SECONDS_PER_TILE, or "
            "OSAL.BUDGET.NUCLEI_PER_TILE"
        )
    first = init or node.INIT_TILES or tiles(node.INIT_FRACTION, total)
    later = node.QUERY_TILES or tiles(node.QUERY_FRACTION, total)
    price = budget.price_of_a_tile
    return replace(budget, init=node.INIT or first * price, query=node.QUERY or later * price)


def build_schedule(cfg: CfgNode, budget: Budget, *, total: int, init: int = 0) -> tuple[RoundSchedule, int]:
    """(schedule, tiles of a query) for `total` training tiles; `init` overrides the initial number.

    Of another unit than tiles: what the budget buys at the price that is expected before anything is labelled.
    """
    node, schedule = cfg.OSAL.BUDGET, cfg.OSAL.SCHEDULE
    first, query = (round(part / budget.price_of_a_tile) for part in (budget.init, budget.query))
    if budget.unit != TILES:
        first, query = max(first, 1), max(query, 1)
    plan = RoundSchedule.plan(
        total=total,
        init=init or first,
        query=query,
        num_queries=node.NUM_QUERIES,
        epochs=schedule.EPOCHS,
        min_iters=schedule.MIN_ITERS,
        batch=cfg.SOLVER.IMS_PER_BATCH,
    )
    asked = plan.labelled[0] + node.NUM_QUERIES * query
    if asked > total and comm.is_main_process():
        logging.getLogger(__name__).warning(
            "OSAL.BUDGET: %d initial tiles and %d queries of %d make %d, but there are %d: the plan is shortened to "
            "%d of %d queries, the last of %d tiles",
            plan.labelled[0],
            node.NUM_QUERIES,
            query,
            asked,
            total,
            plan.num_rounds - 1,
            node.NUM_QUERIES,
            (plan.labelled[-1] - plan.labelled[-2]) if plan.num_rounds > 1 else 0,
        )
    return plan, query
