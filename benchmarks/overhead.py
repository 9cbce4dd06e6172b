#!/usr/bin/env python
"""What open-set active learning costs beside plain Detectron2, as ratios measured side by side in one process.

    python benchmarks/overhead.py --config-file configs/CoNSeP/osal_nd.yaml --output overhead.json MODEL.DEVICE cpu

The sides of a comparison take turns (A B A B ...), and each turn gives one ratio; the median and the quartiles of
these ratios are reported, because times of a machine that does other things too mean little by themselves. On such a
machine take few tiles and many repeats, so that the two sides of a ratio are close in time, or `--clock cpu`. On a CPU
with glibc set MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ to 4000000000: OSALRCNN holds the graphs of both
detectors at once, and without these glibc gives the memory back to the system and fetches it again in every step.

A training step is that of OSALRCNN with its prototype loss active, against the steps of two plain detectors (K and two
classes, stock ROI heads) on the same images with the same weights. Scoring is PoolScorer with both passes of OSAL-ND
over all the tiles, against the same two detectors called by hand, the plain two, and Detectron2's inference loop.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # works from a clone without installation

from osal_detectron2.engine.fronts import read_config  # noqa: E402  (first: it explains what to do if Detectron2 is missing)

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402
from overhead_sides import (  # noqa: E402
    Side,
    plain_detectors,
    same_weights,
    scoring_sides,
    training_sides,
    warm_up,
)

from osal_detectron2.benchmark.provenance import commit, hardware  # noqa: E402
from osal_detectron2.core.errors import OSALError  # noqa: E402
from osal_detectron2.core.store import write_json  # noqa: E402
from osal_detectron2.data.mapper import mapper_from_config  # noqa: E402
from osal_detectron2.data.round_loader import build_round_loader  # noqa: E402
from osal_detectron2.engine.fingerprint import versions  # noqa: E402
from osal_detectron2.engine.plan import build_plan  # noqa: E402
from osal_detectron2.engine.resolve import resolve  # noqa: E402
from osal_detectron2.modeling.checkpoint import OpenSetCheckpointer  # noqa: E402
from osal_detectron2.modeling.optimizer import build_osal_optimizer  # noqa: E402
from osal_detectron2.scoring.pool import check_needs  # noqa: E402

# Name -> (which side's seconds by which, words for the table, aim).
RATIOS = {
    "training_step": ("osal / plain", "time of a training step: OSALRCNN / two plain detectors", "<= 1.03"),
    "scoring_rate_vs_bare": ("bare / scoring", "rate: scoring / bare forward, tiles in memory", ">= 0.9"),
    "scoring_rate_vs_bare_reading": (
        "reading / scoring",
        "rate: scoring / bare forward and mapper",
        ">= 0.9",
    ),
    "scoring_rate_vs_plain": ("plain / scoring", "rate: scoring / two plain detectors, tiles in memory", ""),
    "scoring_rate_vs_stock_loop": ("stock / scoring", "rate: scoring / Detectron2's loop, tile by tile", ""),
}


# ---- measuring --------------------------------------------------------------------------------------------
def interleaved(sides: dict[str, Side], *, repeats: int, clock: Callable[[], float]) -> dict[str, np.ndarray]:
    """Seconds (repeats,) that each side took. They take turns; the first turn warms up and does not count.

    A side is called with the number of its turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            begun = clock()
            side(turn)
            seconds[name].append(clock() - begun)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def summarize(seconds: dict[str, np.ndarray], quotient: str) -> dict:
    """Median and quartiles of the per-repeat ratios; `quotient` is "A / B" with two sides of `seconds`."""
    above, below = quotient.split(" / ")
    q25, median, q75 = np.quantile(seconds[above] / seconds[below], [0.25, 0.5, 0.75])
    return {"median": float(median), "q25": float(q25), "q75": float(q75), "repeats": len(seconds[above])}


def make_clock(kind: str, device: str) -> Callable[[], float]:
    """Seconds of the wall or of this process's CPU time, after the GPU (if any) has finished its work."""
    now = time.perf_counter if kind == "wall" else time.process_time
    if not device.startswith("cuda"):
        return now

    def clock() -> float:
        torch.cuda.synchronize()
        return now()

    return clock


# ---- the report -------------------------------------------------------------------------------------------
def measure(args) -> dict:
    """Everything that the JSON says."""
    cfg = read_config(args.config_file, args.opts)
    cfg.OSAL.STRATEGY = "osal_nd"
    plan = build_plan(cfg)
    records, strategy = plan.train, plan.strategy
    cfg = resolve(cfg, plan)
    torch.manual_seed(cfg.OSAL.SEED)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    model = build_model(cfg)
    check_needs(strategy, model)
    OpenSetCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    plain = plain_detectors(cfg)
    optimizer = build_osal_optimizer(cfg, model)
    clock = make_clock(args.clock, cfg.MODEL.DEVICE)

    batches = iter(
        build_round_loader(
            records,
            mapper_from_config(cfg, train=True, with_labels=True),
            seed=cfg.OSAL.SEED,
            round_index=0,
            first_iteration=0,
            iterations=args.train_steps + 1 + args.repeats + 1,
            batch_size=args.batch,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
    )
    with EventStorage():
        warm_up(model, optimizer, batches, steps=args.train_steps)
        same_weights(plain, model)
        sides = training_sides(cfg, model, plain, optimizer, list(batches))
        step = interleaved(sides, repeats=args.repeats, clock=clock)

    chosen = {r["image_key"]: r for r in records[:: -(-len(records) // args.tiles)]}
    same_weights(plain, model)
    for module in (model, *plain.values()):
        module.eval()
    sides = scoring_sides(cfg, model, plain, chosen, batch_size=args.batch, needs=strategy.needs)
    with torch.no_grad():
        found = sides["scoring"](0)
        scoring = interleaved(sides, repeats=args.repeats, clock=clock)

    gpu = torch.cuda.get_device_name() if cfg.MODEL.DEVICE.startswith("cuda") else None
    return {
        "commit": commit(ROOT),
        "hardware": hardware() | {"threads": torch.get_num_threads(), "gpu": gpu},
        "versions": versions(),
        "config": {
            "file": args.config_file,
            "options": args.opts,
            "tiles": len(chosen),
            "batch": args.batch,
            "train_steps": args.train_steps,
            "clock": args.clock,
            "malloc": {k: v for k, v in sorted(os.environ.items()) if k.startswith("MALLOC_")},
        },
        "detections_per_tile": {
            name: float(np.mean([len(row["scores"]) for row in table.values()]))
            for name, table in found.items()
        },
        "ratios": {
            name: {"quotient": quotient, "aim": aim}
            | summarize(step if name == "training_step" else scoring, quotient)
            for name, (quotient, _, aim) in RATIOS.items()
        },
    }


def table(result: dict) -> str:
    lines = [f"{'':58s} median   quartiles        aim"]
    for name, ratio in result["ratios"].items():
        numbers = f"{ratio['median']:6.3f}   {ratio['q25']:.3f} .. {ratio['q75']:.3f}"
        lines.append(f"{RATIOS[name][1]:58s} {numbers}   {ratio['aim']}".rstrip())
    return "\n".join(lines)


def positive(word: str) -> int:
    if int(word) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(word)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="as of osal train")
    parser.add_argument("--repeats", type=positive, default=20, help="ratios that are taken (default: 20)")
    parser.add_argument("--tiles", type=positive, default=48, help="tiles scored, at most (default: 48)")
    parser.add_argument(
        "--batch", type=positive, default=4, help="tiles in a batch on both sides (default: 4)"
    )
    parser.add_argument(
        "--train-steps", type=positive, default=100, help="steps of training beforehand (default: 100)"
    )
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="time of what (default: wall)"
    )
    parser.add_argument("--output", metavar="FILE.json", help="write everything as JSON")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys, as MODEL.DEVICE cpu")
    args = parser.parse_args(argv)
    try:
        result = measure(args)
        if args.output:
            write_json(args.output, result)
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except FloatingPointError as error:
        advice = "lower SOLVER.BASE_LR, or give pre-trained MODEL.WEIGHTS"
        print(f"error: the training diverged ({str(error).splitlines()[0]}): {advice}", file=sys.stderr)
        return 1
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
