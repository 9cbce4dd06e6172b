"""From a config to the parts of a run. Everything made here can also be made by hand with explicit arguments."""

import hashlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from detectron2 import __version__ as detectron2_version
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm

from .. import __version__
from ..config import add_osal_config
from ..core.errors import ConfigError
from ..core.schedule import RoundSchedule, tiles
from ..data.coco import register_from_config
from ..data.mapper import unused_settings
from ..modeling.meta_arch import check_architecture, is_coupled
from ..modeling.unknown import POLICIES, name_unknown
from ..oracles import get_oracle
from ..renamed import adopt_old_keys
from ..strategies import Strategy, get_strategy

# Keys that change cost, place or logs, but not what is trained, selected or reported.
FREE_KEYS = (
    "OUTPUT_DIR", "VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK", "SEED", "DATALOADER.", "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.MAX_ITER", "SOLVER.STEPS", "TEST.EVAL_PERIOD", "DATASETS.", "OSAL.DATA.TRAIN_", "OSAL.DATA.TEST_",
    "OSAL.DATA.CACHE_IMAGES", "OSAL.SCORING.BATCH_SIZE", "OSAL.EVAL.GALLERY_TILES", "OSAL.EVAL.CURVES",
    "OSAL.ORACLE.SECONDS_", "OSAL.ORACLE.DRAFT_SCORE", "OSAL.ORACLE.COPY_IMAGES", "OSAL.ORACLE.INIT_RECORD",
    "MODEL.DEVICE", "OSAL.BUDGET.INIT_FILE", "OSAL.SCHEDULE.ROUND_0", "OSAL.SCHEDULE.KEEP_ROUNDS",
)  # fmt: skip


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

    @property
    def unknown_classes(self) -> list[str]:
        """The class names that are not known."""
        return self.class_names[len(self.known_classes) :]


def build_plan(cfg: CfgNode) -> Plan:
    """The plan that cfg.OSAL, cfg.DATASETS and cfg.SOLVER.IMS_PER_BATCH ask for. Writes nothing."""
    train, test, known, class_names = load_data(cfg)
    if cfg.OSAL.ORACLE.NAME == "simulated" and not any(r["annotations"] for r in train):
        raise ConfigError(
            f"{cfg.OSAL.DATA.TRAIN_JSON or cfg.DATASETS.TRAIN[0]}: no tile has an annotation, so nothing can play the "
            "annotator; let people label (OSAL.ORACLE.NAME human), or give the labelled JSON"
        )
    init_keys = initial_keys(cfg, train)
    schedule, query_tiles = build_schedule(cfg, total=len(train), init=len(init_keys))
    return Plan(train, test, known, class_names, init_keys, schedule, query_tiles, build_strategy(cfg))


def load_data(cfg: CfgNode) -> tuple[list[dict], list[dict], list[str], list[str]]:
    """(training records, test records, known classes, all class names) of the data sets that `cfg` names."""
    train_name, test_name = register_from_config(cfg)
    train, test = DatasetCatalog.get(train_name), DatasetCatalog.get(test_name) if test_name else []
    metadata = MetadataCatalog.get(train_name)
    known = list(metadata.known_classes)
    return train, test, known, [*known, *metadata.unknown_classes]


def build_strategy(cfg: CfgNode) -> Strategy:
    """The strategy OSAL.STRATEGY with the settings of its node."""
    cls = get_strategy(cfg.OSAL.STRATEGY)
    keys = [field.name for field in fields(cls.Settings)]
    return cls(**{key: cfg.OSAL[cls.node][key.upper()] for key in keys})


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


def build_schedule(cfg: CfgNode, *, total: int, init: int = 0) -> tuple[RoundSchedule, int]:
    """(schedule, tiles of a query) for `total` training tiles; `init` overrides the initial number."""
    budget, schedule = cfg.OSAL.BUDGET, cfg.OSAL.SCHEDULE
    query = budget.QUERY_TILES or tiles(budget.QUERY_FRACTION, total)
    plan = RoundSchedule.plan(
        total=total,
        init=init or budget.INIT_TILES or tiles(budget.INIT_FRACTION, total),
        query=query,
        num_queries=budget.NUM_QUERIES,
        epochs=schedule.EPOCHS,
        min_iters=schedule.MIN_ITERS,
        batch=cfg.SOLVER.IMS_PER_BATCH,
    )
    asked = plan.labelled[0] + budget.NUM_QUERIES * query
    if asked > total and comm.is_main_process():
        logging.getLogger(__name__).warning(
            "OSAL.BUDGET: %d initial tiles and %d queries of %d make %d, but there are %d: the plan is shortened to "
            "%d of %d queries, the last of %d tiles",
            plan.labelled[0],
            budget.NUM_QUERIES,
            query,
            asked,
            total,
            plan.num_rounds - 1,
            budget.NUM_QUERIES,
            (plan.labelled[-1] - plan.labelled[-2]) if plan.num_rounds > 1 else 0,
        )
    return plan, query


def resolve_config(
    cfg: CfgNode,
    *,
    num_known: int,
    schedule: RoundSchedule,
    strategy: Strategy,
    unknown_classes: Sequence[str] = (),
) -> None:
    """Fill in what follows from data and plan, in place; raise ConfigError for values that cannot work."""
    check_choices(cfg.OSAL)
    check_machine(device=cfg.MODEL.DEVICE, amp=cfg.SOLVER.AMP.ENABLED, weights=cfg.MODEL.WEIGHTS)
    for sentence in unused_settings(cfg) if comm.is_main_process() else ():
        logging.getLogger(__name__).warning(sentence)
    ignoring = cfg.OSAL.DATA.UNKNOWN_POLICY == "ignore"
    if ignoring and cfg.MODEL.META_ARCHITECTURE != "OSALRCNN":
        raise ConfigError(
            "OSAL.DATA.UNKNOWN_POLICY ignore needs MODEL.META_ARCHITECTURE OSALRCNN; set it, or use the policy drop"
        )
    if cfg.OSAL.SEMI.ENABLED and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN":
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "OpenSetRPN"  # the same, and it can leave boxes out
    name_unknown(cfg, unknown_classes)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_known
    cfg.SOLVER.MAX_ITER = schedule.max_iter
    cfg.SOLVER.STEPS = ()
    apply_strategy(cfg, strategy)


def check_choices(osal: CfgNode) -> None:
    """Raise ConfigError for a word in the node OSAL that is not one of those that its key knows."""
    choices = {
        "SCHEDULE.WEIGHTS_PER_ROUND": (osal.SCHEDULE.WEIGHTS_PER_ROUND, ("initial", "continue")),
        "DATA.UNKNOWN_POLICY": (osal.DATA.UNKNOWN_POLICY, POLICIES),
        "EVAL.UNKNOWN": (osal.EVAL.UNKNOWN, ("fp", "ignore")),
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise ConfigError(f"OSAL.{key}: {value!r} is not one of {', '.join(allowed)}")
    get_oracle(osal.ORACLE.NAME)


def check_machine(
    *,
    device: str,
    amp: bool,
    weights: str,
    keys: Sequence[str] = ("MODEL.DEVICE", "SOLVER.AMP.ENABLED", "MODEL.WEIGHTS"),
) -> None:
    """Raise ConfigError for what cannot work on this machine; `keys`: what the three are called in the config."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{keys[0]} is cuda, but no GPU is usable here; set it to cpu")
    if amp and not device.startswith("cuda"):
        raise ConfigError(f"{keys[1]} needs a GPU; set it to False, or {keys[0]} to cuda")
    if weights and "://" not in weights and not Path(weights).is_file():
        raise ConfigError(f"{keys[2]}: {weights} is not a file; give a file, a URL, or '' for random weights")


def apply_strategy(cfg: CfgNode, strategy: Strategy) -> None:
    """Choose the detectors that the strategy needs, in place."""
    check_architecture(cfg)  # before the strategy's choice hides it
    if strategy.overrides:
        cfg.merge_from_list([word for pair in strategy.overrides.items() for word in pair])
    if (
        cfg.MODEL.META_ARCHITECTURE == "OSALRCNN"
        and "auxiliary" not in strategy.needs
        and not is_coupled(
            unknown_policy=cfg.OSAL.DATA.UNKNOWN_POLICY, auxiliary_backbone=cfg.OSAL.AUXILIARY.BACKBONE
        )
    ):
        cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if hasattr(architecture, "check_config"):  # now, before anything is written
        architecture.check_config(cfg)


def default_config() -> CfgNode:
    """Detectron2's and our defaults, under today's names."""
    cfg = get_cfg()
    add_osal_config(cfg)
    adopt_old_keys(cfg)
    return cfg


def matching_config(cfg: CfgNode) -> dict:
    """Flat {key: value} of everything that a resumed run must not change."""
    return matching_keys(cfg, free=FREE_KEYS)


def matching_keys(nested: Mapping, *, free: tuple[str, ...]) -> dict:
    """Flat {"A.B": value} of nested settings, sorted, without the keys that start with one of `free`."""

    def flatten(node: Mapping, prefix: str):
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from flatten(value, f"{prefix}{key}.")
            elif not f"{prefix}{key}".startswith(free):
                yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value

    return dict(sorted(flatten(nested, "")))


def count_nuclei(records: Sequence[dict], *, num_known: int) -> dict[str, int]:
    """Known and unknown nuclei in records, as {"known": n, "unknown": m}."""
    ids = [a["category_id"] for r in records for a in r["annotations"] if not a.get("iscrowd", 0)]
    known = sum(i < num_known for i in ids)
    return {"known": known, "unknown": len(ids) - known}


def data_sha256(*parts: Sequence[dict]) -> str:
    """Hash of what records say about tiles and nuclei; paths and COCO ids do not count."""
    digest = hashlib.sha256()
    for records in parts:
        for r in sorted(records, key=lambda r: r["image_key"]):
            boxes = sorted(
                [*map(float, a["bbox"]), a["category_name"], a["category_id"]] for a in r["annotations"]
            )
            digest.update(json.dumps([r["image_key"], r["height"], r["width"], boxes]).encode())
        digest.update(b"|")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {
        "osal_detectron2": __version__,
        "detectron2": detectron2_version,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
