#!/usr/bin/env python
"""Run a grid of active-learning runs: methods x settings x folds x seeds (docs/benchmark.md).

    tools/benchmark.py configs/benchmarks/consep.yaml --output output/bench --list
    tools/benchmark.py configs/benchmarks/consep.yaml --output output/bench --jobs 4 --gpus 0
    tools/benchmark.py configs/benchmarks/consep_two_cores.yaml --output output/bench --jobs 2 --max-minutes 90 \\
        --only random,osal_nd --seeds 0 MODEL.DEVICE cpu

The same command again goes on where it stopped. Exit code: 0 all cells complete, 1 some failed, 3 out of time.
"""

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # works from a clone without installation

from osal_detectron2.benchmark.grid import read_grid  # noqa: E402
from osal_detectron2.benchmark.plan import plan_cells  # noqa: E402
from osal_detectron2.benchmark.provenance import commit, cores, hardware  # noqa: E402
from osal_detectron2.benchmark.runner import GridRunner  # noqa: E402
from osal_detectron2.core.errors import ConfigError, OSALError  # noqa: E402
from osal_detectron2.core.lock import RunLock  # noqa: E402

OUT_OF_TIME = 3


def parse_arguments(argv=None):
    def names(text):
        return [name for name in text.split(",") if name]

    def numbers(text):
        return [int(name) for name in names(text)]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, help="grid file (YAML)")
    parser.add_argument("--output", type=Path, default=Path("output/bench"), help="folder of this grid")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time (default 1)")
    parser.add_argument(
        "--gpus", type=names, default=[], help="GPU numbers to share among the jobs, e.g. 0,1"
    )
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after so many minutes")
    parser.add_argument("--only", type=names, default=[], metavar="METHODS", help="methods, with commas")
    parser.add_argument("--settings", type=names, default=[], help="settings, with commas")
    parser.add_argument("--folds", type=names, default=[], help="folds, with commas")
    parser.add_argument("--seeds", type=numbers, default=[], help="seeds, with commas")
    parser.add_argument(
        "--list", action="store_true", help="check the grid, list its cells and their state, and stop"
    )
    parser.add_argument("--commit", default="", help="what to record as commit where there is no git")
    parser.add_argument(
        "options", nargs="*", default=[], metavar="KEY VALUE", help="config options of every cell"
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.jobs < 1:
        parser.error("--jobs must be 1 or more")
    return arguments


def run(argv=None) -> int:
    """The tool; returns the exit code. Raises OSALError for a grid that cannot run."""
    arguments = parse_arguments(argv)
    if len(arguments.options) % 2:
        raise ConfigError(f"options come in pairs KEY VALUE: {' '.join(arguments.options)}")
    grid = read_grid(arguments.grid)
    everything = grid.cells(options=arguments.options)
    cells = grid.cells(
        methods=arguments.only,
        settings=arguments.settings,
        folds=arguments.folds,
        seeds=arguments.seeds,
        options=arguments.options,
    )
    runner = GridRunner(
        cells,
        dict(zip(everything, plan_cells(grid.config, everything))),
        config=grid.config,
        output=arguments.output,
        jobs=arguments.jobs,
        gpus=arguments.gpus,
        cores=cores(),
        max_seconds=None if arguments.max_minutes is None else 60 * arguments.max_minutes,
        commit=arguments.commit or commit(ROOT),
        hardware=hardware(arguments.gpus),
        say=lambda line: print(line, flush=True),
    )
    if arguments.list:
        for cell in cells:
            print(
                f"{'done' if runner.is_done(cell) else 'to do'}\t{cell.id}\t{runner.plans[cell]['strategy']}"
            )
        return 0
    with RunLock(arguments.output):
        complete = runner.run()
    for cell_id, reason in runner.failures.items():
        print(f"failed: {cell_id}: {reason}", file=sys.stderr)
    return 1 if runner.failures else 0 if complete else OUT_OF_TIME


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):  # so that the cells are stopped as well; Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        sys.exit(run())
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
