r"""Does full training agree with the screening? Trains the real detector on labelled sets that the screening froze.

    python benchmarks/judge.py curve --cells output/screening/cells/official --tiles datasets/consep_tiles \
        --weights output/localiser/model_final.pth --output output/judge
    python benchmarks/judge.py run --cells output/screening/cells/official --tiles datasets/consep_tiles \
        --weights output/localiser/model_final.pth --output output/judge \
        --arms random random_known looks_per_second --prices 2 4
    python benchmarks/judge.py run --cells output/screening/cells/full --tiles datasets/consep_tiles \
        --weights output/localiser/model_final.pth --output output/judge --arms all --prices 0 --seeds 0
    python benchmarks/judge.py table --cells output/screening/cells/official --output output/judge

Every cell begins with the same weights and sees its labelled nuclei as often as every other, so dense sets get fewer
iterations. `curve` trains one set for ever more views, until more of them add less than --gain; `run` takes what it
found. One cell is one file; a cell that was interrupted goes on from its checkpoint; --max-minutes starts no new one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from protocol import frozen  # noqa: E402
from protocol.agreement import agreement_table, saving_table  # noqa: E402

from osal_detectron2.core.errors import OSALError  # noqa: E402
from osal_detectron2.core.store import read_json, write_json  # noqa: E402

SCHEMA = "osal-judge/1"
BATCH, ROI, RPN = 4, 128, 256  # of 250 px tiles: two_cores.yaml's
CURVE_VIEWS = (10_000, 20_000, 40_000, 80_000, 160_000, 320_000)


def cell_path(args, setting, side, policy, arm, seed) -> Path:
    return args.cells / f"{setting}-{side}-{args.cost}-{policy}-{arm}-{seed}.json"


def judge(
    args, *, setting: str, side: int, policy: str, arm: str, seed: int, price: int, views: int
) -> dict | None:
    """The result of one training, from its file or by training; None where the screening has no such cell yet."""
    source = cell_path(args, setting, side, policy, arm, seed)
    result = args.output / "cells" / f"{source.stem}-p{price}-v{views}.json"
    if result.exists():
        return read_json(result)
    if not source.exists():
        return None
    cell = read_json(source)
    regions = frozen.labelled_regions(cell, price)
    folder = args.tiles if side == 250 else Path(f"{args.tiles}_{side}")
    data = frozen.subset(json.loads((folder / "train.json").read_text()), regions)
    nuclei, tiles = frozen.known_nuclei(data, cell["known_classes"]), len(data["images"])
    run = args.output / "runs" / result.stem
    write_json(args.output / "sets" / f"{result.stem}.json", data)
    sizes = frozen.schedule_options(side, batch=BATCH, roi=ROI, rpn=RPN)
    steps = frozen.iterations(views=views, tiles=tiles, nuclei=nuclei, batch=int(sizes[1]))
    command = [sys.executable, "-m", "osal_detectron2", "train", "--config-file"]
    command += [str(ROOT / "configs/CoNSeP/two_cores.yaml")]
    command += ["--resume"] if (run / "run.json").exists() else []
    command += ["OUTPUT_DIR", str(run), "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(args.weights), *sizes]
    command += ["OSAL.STRATEGY", "random", "SEED", str(seed), "OSAL.DATA.UNKNOWN_POLICY", policy]
    command += ["OSAL.DATA.KNOWN_CLASSES", str(cell["known_classes"])]
    command += ["OSAL.DATA.TRAIN_JSON", str(args.output / "sets" / f"{result.stem}.json")]
    command += ["OSAL.DATA.TRAIN_IMAGE_ROOT", str(folder / "images")]
    command += ["OSAL.DATA.TEST_JSON", str(args.tiles / "test.json")]
    command += ["OSAL.DATA.TEST_IMAGE_ROOT", str(args.tiles / "images")]
    command += ["OSAL.BUDGET.INIT_FRACTION", "1.0", "OSAL.BUDGET.NUM_QUERIES", "0"]
    command += ["OSAL.SCHEDULE.EPOCHS", "0.0", "OSAL.SCHEDULE.MIN_ITERS", str(steps)]
    began = time.monotonic()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "MALLOC_TRIM_THRESHOLD_": "4000000000",
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
    }
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(args.output / "runs" / f"{result.stem}.log", "a") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    metrics = read_json(run / "rounds" / "000" / "metrics.json")
    found = {
        "schema": SCHEMA,
        **{key: cell[key] for key in ("setting", "side", "cost", "policy", "arm", "seed")},
        "price_index": price,
        "price": cell["points"][price]["price"],
        "seconds": cell["points"][price]["seconds"],
        **{"views": views, "iterations": steps, "tiles": tiles, "known": nuclei},
        "mAP50": metrics["bbox"]["mAP50"],
        "ap50": {name: metrics["bbox"][f"AP50-{name}"] for name in cell["known_classes"]},
        "aose": metrics["open_set"]["A-OSE"],
        "screening_mAP50": cell["points"][price]["mAP50"],
        "wall_seconds": round(time.monotonic() - began),
    }
    write_json(result, found)
    shutil.rmtree(run)
    print(f"{result.stem}: mAP50 {found['mAP50']:.2f} after {steps} iterations", flush=True)
    return found


def curve(args) -> int | None:
    """mAP50 of one set after ever more views; writes curve.json. The views that `run` takes, or None."""
    found = {}
    for views in CURVE_VIEWS:
        one = judge(
            args, setting=args.settings[0], side=250, policy="drop", arm="random", seed=0, price=args.curve_price,
            views=views,
        )  # fmt: skip
        if one is None:
            raise OSALError(f"{args.cells}: no cell of Random with seed 0: run the screening first")
        found[views] = one["mAP50"]
        enough = frozen.views_that_converge(found, gain=args.gain)
        write_json(
            args.output / "curve.json", {"mAP50": {str(v): m for v, m in found.items()}, "views": enough}
        )
        if enough:
            return enough
    return None


def run(args) -> None:
    """The cells in the order seed, price, setting, arm: pairs are complete early."""
    until = time.monotonic() + 60 * args.max_minutes
    views = args.views or curve(args)
    if not views:
        raise OSALError(f"{args.output}/curve.json: not converged after {CURVE_VIEWS[-1]} views; say --views")
    for seed in args.seeds:
        for price in args.prices:
            for setting in args.settings:
                for arm in args.arms:
                    if time.monotonic() > until:
                        return
                    where = dict(setting=setting, side=args.side, policy=args.policy, arm=arm, seed=seed)
                    if judge(args, **where, price=price, views=views) is None:
                        print(f"{setting} {arm} {seed}: not screened, left out", flush=True)


def table(args) -> None:
    """Ranks and paired differences of both, and seconds saved, at the number of views that most cells have."""
    cells = [read_json(path) for path in sorted((args.output / "cells").glob("*.json"))]
    print(agreement_table(cells), saving_table(cells), sep="\n\n")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, call in (("curve", curve), ("run", run), ("table", table)):
        one = commands.add_parser(name, help=call.__doc__.splitlines()[0])
        one.set_defaults(call=call)
        one.add_argument("--cells", type=Path, required=True, help="cells of the screening, one split")
        one.add_argument("--output", type=Path, required=True)
        if name == "table":
            continue
        one.add_argument(
            "--tiles", type=Path, required=True, help="tiles of 250 px; of another side S: FOLDER_S"
        )
        one.add_argument("--weights", type=Path, required=True, help="what every training begins with")
        one.add_argument("--settings", nargs="+", default=["3_4"])
        one.add_argument("--cost", default="default")
        one.add_argument(
            "--curve-price", type=int, default=3, help="number of the price of the learning curve"
        )
        one.add_argument(
            "--gain", type=float, default=0.5, help="mAP50 that twice the views must add to go on"
        )
        if name == "run":
            one.add_argument("--arms", nargs="+", required=True)
            one.add_argument("--side", type=int, default=250)
            one.add_argument("--policy", default="drop")
            one.add_argument("--seeds", nargs="+", type=int, default=list(range(8)))
            one.add_argument("--prices", nargs="+", type=int, default=[3], help="their numbers, 0 the first")
            one.add_argument(
                "--views", type=int, default=0, help="labelled-nucleus views; 0: what the curve says"
            )
            one.add_argument(
                "--max-minutes", type=float, default=1e9, help="no training begins later than this"
            )
    args = parser.parse_args(argv)
    try:
        args.call(args)
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"error: a training ended with {error.returncode}; its log is in {args.output}/runs",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
