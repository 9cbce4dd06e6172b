"""By what two runs, or two parts of one, are told to be the same: settings, data and versions."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from detectron2 import __version__ as detectron2_version
from detectron2.config import CfgNode

from .. import __version__
from ..core.budget import TILES

# Keys that change cost, place or logs, but not what is trained, selected or reported.
FREE_KEYS = (
    "OUTPUT_DIR", "VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK", "SEED", "DATALOADER.", "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.MAX_ITER", "SOLVER.STEPS", "TEST.EVAL_PERIOD", "DATASETS.", "OSAL.DATA.TRAIN_", "OSAL.DATA.TEST_",
    "OSAL.DATA.CACHE_IMAGES", "OSAL.SCORING.BATCH_SIZE", "OSAL.EVAL.GALLERY_TILES", "OSAL.EVAL.CURVES",
    "OSAL.ORACLE.SECONDS_", "OSAL.ORACLE.DRAFT_SCORE", "OSAL.ORACLE.COPY_IMAGES", "OSAL.ORACLE.INIT_RECORD",
    "MODEL.DEVICE", "OSAL.BUDGET.INIT_FILE", "OSAL.SCHEDULE.ROUND_0", "OSAL.SCHEDULE.KEEP_ROUNDS",
)  # fmt: skip


def matching_config(cfg: CfgNode) -> dict:
    """Flat {key: value} of everything that a resumed run must not change."""
    return matching_keys(cfg, free=free_keys(cfg.OSAL))


def free_keys(osal: Mapping) -> tuple[str, ...]:
    """FREE_KEYS, without the prices where the run spends by them, or its annotators' times follow from them."""
    prices = ("OSAL.ORACLE.SECONDS_", "OSAL.ORACLE.DRAFT_SCORE")
    free = osal["BUDGET"]["UNIT"] == TILES and osal["ORACLE"]["NAME"] != "imperfect"
    return FREE_KEYS if free else tuple(k for k in FREE_KEYS if k not in prices)


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
