"""`osal benchmark`: a grid of active-learning runs, methods x settings x folds x seeds (docs/benchmark.md)."""

import argparse
import signal
import sys
from pathlib import Path

from ..core.errors import ConfigError
from ..core.shipped import find_config

EPILOG = """examples:
  osal benchmark configs/benchmarks/consep.yaml --output output/bench --list
  osal benchmark configs/benchmarks/consep.yaml --output output/bench --jobs 4 --gpus 0
  osal benchmark configs/benchmarks/consep_two_cores.yaml --output output/bench --jobs 2 --max-minutes 90 \\
      --only random,osal_nd --seeds 0 MODEL.DEVICE cpu
  osal benchmark configs/benchmarks/consep.yaml --output output/bench --jobs 40 --cluster slurm \
      --slurm partition=gpu,gpus_per_node=1,cpus_per_task=4,time=240

The same command again goes on where it stopped. Exit code: 0 all cells complete, 1 some failed, 3 out of time."""
OUT_OF_TIME = 3
INTERRUPTED = 130  # the exit code of shells for SIGINT


def benchmark(parser: argparse.ArgumentParser) -> None:
    def names(text):
        return [name for name in text.split(",") if name]

    def numbers(text):
        return [int(name) for name in names(text)]

    parser.epilog = EPILOG
    add = parser.add_argument
    add("grid", help="grid file (YAML)")
    add("--output", type=Path, default=Path("output/bench"), help="folder of this grid")
    add("--jobs", type=int, default=1, help="cells at a time (default 1)")
    add("--gpus", type=names, default=[], help="GPU numbers to share among the jobs, e.g. 0,1")
    add(
        "--cluster",
        choices=["slurm"],
        help="cells are jobs there, --jobs of them queued or running at a time",
    )
    add(
        "--slurm",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="options of sbatch, e.g. partition=gpu,gpus_per_node=1,time=240 (minutes)",
    )
    add("--max-minutes", type=float, help="stop cleanly after so many minutes")
    add("--only", type=names, default=[], metavar="METHODS", help="methods, with commas")
    add("--settings", type=names, default=[], help="settings, with commas")
    add("--folds", type=names, default=[], help="folds, with commas")
    add("--seeds", type=numbers, default=[], help="seeds, with commas")
    add("--list", action="store_true", help="check the grid, list its cells and their state, and stop")
    add("--commit", default="", help="what to record as commit where there is no git")
    add("options", nargs="*", default=[], metavar="KEY VALUE", help="config options of every cell")
    parser.set_defaults(call=_benchmark)


def _benchmark(arguments) -> int:
    from ..benchmark.cluster import SlurmLauncher, slurm_options
    from ..benchmark.grid import read_grid
    from ..benchmark.launch import LocalLauncher
    from ..benchmark.plan import plan_cells
    from ..benchmark.provenance import cores, hardware
    from ..benchmark.runner import GridRunner
    from ..core.lock import RunLock

    _end_in_order()
    if arguments.jobs < 1:
        raise ConfigError("--jobs must be 1 or more")
    if arguments.cluster and arguments.gpus:
        raise ConfigError("--gpus is of this machine; with --cluster slurm give --slurm gpus_per_node=1")
    if arguments.slurm and not arguments.cluster:
        raise ConfigError("--slurm holds with --cluster slurm only; give that, too")
    if len(arguments.options) % 2:
        raise ConfigError(f"options come in pairs KEY VALUE: {' '.join(arguments.options)}")
    grid = read_grid(find_config(arguments.grid))
    everything = grid.cells(options=arguments.options)
    cells = grid.cells(
        methods=arguments.only,
        settings=arguments.settings,
        folds=arguments.folds,
        seeds=arguments.seeds,
        options=arguments.options,
    )
    if arguments.cluster:
        launcher = SlurmLauncher(slurm_options(arguments.slurm))
    else:
        launcher = LocalLauncher(
            jobs=arguments.jobs, gpus=arguments.gpus, cores=cores(), hardware=hardware(arguments.gpus)
        )
    runner = GridRunner(
        cells,
        dict(zip(everything, plan_cells(grid.config, everything))),
        config=grid.config,
        output=arguments.output,
        launcher=launcher,
        jobs=arguments.jobs,
        max_seconds=None if arguments.max_minutes is None else 60 * arguments.max_minutes,
        commit=arguments.commit or _commit(),
        say=lambda line: print(line, flush=True),
    )
    if arguments.list:
        for cell in cells:
            print(
                f"{'done' if runner.is_done(cell) else 'to do'}\t{cell.id}\t{runner.plans[cell]['strategy']}"
            )
        return 0
    try:
        with RunLock(arguments.output):
            complete = runner.run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    for cell_id, reason in runner.failures.items():
        print(f"failed: {cell_id}: {reason}", file=sys.stderr)
    return 1 if runner.failures else 0 if complete else OUT_OF_TIME


def _commit() -> str:
    """Of the clone that this file is in; an installed one may be below somebody's own repository."""
    from ..benchmark.provenance import commit

    clone = Path(__file__).resolve().parents[2]
    return commit(clone) if (clone / ".git").exists() else "unknown"


def _end_in_order() -> None:
    """Let a signal that ends this process end it as Ctrl-C does, so that the cells are stopped as well."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:  # which nohup asks for
            signal.signal(number, lambda received, _: sys.exit(128 + received))
