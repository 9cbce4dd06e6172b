"""A miniature of the whole thing: 24 synthetic tiles, two tiny detectors, three rounds of four iterations."""

import json
import os
import sys
from pathlib import Path

import programs

ROOT = Path(__file__).resolve().parents[2]

TINY = """
_BASE_: "{root}/configs/quickstart.yaml"
MODEL:
  FPN: {{OUT_CHANNELS: 16}}
  RPN: {{PRE_NMS_TOPK_TRAIN: 50, PRE_NMS_TOPK_TEST: 50, POST_NMS_TOPK_TRAIN: 20, POST_NMS_TOPK_TEST: 20}}
  ROI_HEADS: {{BATCH_SIZE_PER_IMAGE: 16, SCORE_THRESH_TEST: 0.0}}
  ROI_BOX_HEAD: {{FC_DIM: 16, POOLER_RESOLUTION: 3}}
SOLVER: {{IMS_PER_BATCH: 2, WARMUP_ITERS: 0, BASE_LR: 0.01, CHECKPOINT_PERIOD: 3}}
TEST: {{DETECTIONS_PER_IMAGE: 20}}
OSAL:
  DATA:
    TRAIN_JSON: "{data}/annotations/random_fold1_train.json"
    TRAIN_IMAGE_ROOT: "{data}/rgb"
    TEST_JSON: "{data}/annotations/random_fold1_test.json"
    TEST_IMAGE_ROOT: "{data}/rgb"
  BUDGET: {{INIT_TILES: 4, QUERY_TILES: 4, NUM_QUERIES: 2}}
  SCHEDULE: {{EPOCHS: 0.0, MIN_ITERS: 4, WEIGHTS_PER_ROUND: initial, LR: step}}
  PROTOTYPE: {{WARMUP_ITERS: 1}}
  AUXILIARY: {{SCORE_THRESH: 0.0}}
  EVAL: {{GALLERY_TILES: 2, CURVES: False}}
"""

# A mean teacher that has something to say in so short a training.
SEMI = (
    "OSAL.SEMI.ENABLED",
    True,
    "OSAL.SEMI.BURN_IN",
    0.25,
    "OSAL.SEMI.SCORE_THRESH",
    0.3,
    "OSAL.SEMI.FLOOR",
    0.2,
)


def train(config, *options, flags=()):
    """`osal train` in this process; returns its exit code."""
    return programs.osal("train", *(["--config-file", config] if config else []), *flags, *options)


def train_quietly(config, options, flags=()):
    """Target of a child process."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    import torch

    torch.set_num_threads(1)
    sys.exit(train(config, *options, flags=flags))


def command(config, *options, flags=(), **kwargs):
    """The tool as a user calls it."""
    words = ["-m", "osal_detectron2", "train", "--config-file", config, *flags, *options]
    return programs.run(words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, **kwargs)


def decisions(folder) -> dict:
    """`record` without what says by which front the run was started, for runs of two fronts."""
    content = {}
    for name, text in record(folder).items():
        if name == "run.json" or name.endswith("commit.json"):
            text = {k: v for k, v in json.loads(text).items() if k not in ("front", "previous")}
        content[name] = text
    return content


RECORD = ("run.json", "rounds/*/selection.json", "rounds/*/labels.json", "rounds/*/metrics.json",
          "rounds/*/scores.npz", "rounds/*/commit.json")  # fmt: skip


def record(folder) -> dict[str, bytes]:
    """Every byte of what a run decided and measured."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for pattern in RECORD for p in sorted(folder.glob(pattern))
    }
