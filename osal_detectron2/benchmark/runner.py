"""Runs the cells of a grid as processes of `osal train`, several at a time, and collects their results."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from ..core.errors import LedgerError
from ..core.store import read_json, write_bytes, write_json
from .cell import RESULT_SCHEMA, cell_result, progress
from .grid import Cell
from .launch import CONSOLE, Launched, Launcher
from .plan import PACKAGE, importable

_ROUND_0 = "round_0.pth"
_REPORT_SECONDS = 60.0


@dataclass
class _Running:
    cell: Cell
    launched: Launched
    slot: int


@dataclass(eq=False)
class GridRunner:
    """Runs what is left of a grid; `run()` may be called again, in another process, on another day.

    Cells are independent: each is one run folder OUTPUT/cells/<id>/, resumed where it stopped, and leaves one
    OUTPUT/results/<setting>-<fold>-<method>-<seed>.json when complete.

    Args:
        cells: in the order to run them.
        plans: what plan.py says of each, and of the other cells of the grid, for which a round 0 is kept.
        config: the base config file. output: folder of the grid.
        launcher: starts their processes. jobs: cells at a time.
        max_seconds: start no cell that would not fit (by the mean of complete ones), and stop all at the limit.
        commit: written into the results.
        say: takes the lines of progress.
    """

    cells: Sequence[Cell]
    plans: Mapping[Cell, Mapping]
    _: KW_ONLY
    config: Path
    output: Path
    launcher: Launcher
    jobs: int = 1
    max_seconds: float | None = None
    commit: str = "unknown"
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.failures: dict[str, str] = {}
        self._durations: dict[Cell, float] = {}
        self._groups: dict[tuple, list[Cell]] = {}
        for cell in self.plans:
            self._groups.setdefault(self._recipe(cell), []).append(cell)

    # ---- files ------------------------------------------------------------------------------------------
    def folder(self, cell: Cell) -> Path:
        return self.output / "cells" / cell.id

    def result_path(self, cell: Cell) -> Path:
        return self.output / "results" / cell.result_name

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell has its result. Raises LedgerError if that is of another config."""
        path = self.result_path(cell)
        if not path.is_file():
            return False
        result = read_json(path)
        if not isinstance(result, dict) or result.get("schema") != RESULT_SCHEMA:
            raise LedgerError(
                f"{path}: not a file of schema {RESULT_SCHEMA}; move it elsewhere, then run again"
            )
        if result.get("config_sha256") != self.plans[cell]["config_sha256"]:
            raise LedgerError(
                f"{path}: made with another config (hash {str(result.get('config_sha256'))[:12]}, the grid's is "
                f"{self.plans[cell]['config_sha256'][:12]}). Restore the grid file, the base config and the options; "
                f"or use a new --output; or delete this file and {self.folder(cell)} to run the cell anew"
            )
        self._durations[cell] = result["seconds"]
        return True

    # ---- the run ----------------------------------------------------------------------------------------
    def run(self) -> bool:
        """Run until all is done, failed, or out of time; True if every cell has its result.

        What failed is in `failures`, id -> last line of its console. Raises LedgerError for foreign results before
        anything starts.
        """
        begun = time.monotonic()
        left = [cell for cell in self.cells if not self.is_done(cell)]
        self.say(f"{len(self.cells)} cells, {len(self.cells) - len(left)} complete, {self.jobs} at a time")
        running = self._left_running(left)
        left = [cell for cell in left if cell not in [job.cell for job in running]]
        reported = begun
        try:
            while left or running:
                elapsed = time.monotonic() - begun
                if self.max_seconds is not None and elapsed >= self.max_seconds:
                    self.say(f"{self.max_seconds / 60:.0f} minutes are over: stopping; start again to go on")
                    break
                while len(running) < self.jobs and (cell := self._next(left, running, elapsed)) is not None:
                    left.remove(cell)
                    running.append(self._start(cell, slot=self._free_slot(running)))
                if not running:
                    self.say("no cell fits into the time that is left: stopping; start again to go on")
                    break
                time.sleep(self.launcher.poll_seconds)
                for job in [job for job in running if job.launched.poll() is not None]:
                    running.remove(job)
                    self._collect(job)
                    reported = self._report(left, running)
                if time.monotonic() - reported > _REPORT_SECONDS:
                    reported = self._report(left, running)
        finally:
            self.launcher.stop([job.launched for job in running])
        return all(self.result_path(cell).is_file() for cell in self.cells)

    def _next(self, left: Sequence[Cell], running: Sequence[_Running], elapsed: float) -> Cell | None:
        """The first cell that may start now and fits into the time that is left."""
        for cell in left:
            if self._awaits_round_0(cell, running):
                continue
            needed = self._remaining(cell) or 0.0  # nothing is known before the first cell is complete
            if self.max_seconds is None or elapsed + needed <= self.max_seconds:
                return cell
        return None

    def _start(self, cell: Cell, *, slot: int) -> _Running:
        folder = self.folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", PACKAGE, "train", "--config-file", str(self.config), "--resume"]
        words += [*cell.options, *self._share(cell), "OUTPUT_DIR", str(folder)]
        launched = self.launcher.start(words, folder=folder, slot=slot, environment=importable())
        return _Running(cell, launched, slot)

    def _left_running(self, left: Sequence[Cell]) -> list[_Running]:
        """The cells that go on without the grid that started them, which was killed."""
        found = [(cell, self.launcher.find(self.folder(cell))) for cell in left]
        running = [_Running(cell, launched, slot) for slot, (cell, launched) in enumerate(found) if launched]
        if running:
            self.say(
                f"{len(running)} of them are queued or running already: {', '.join(j.cell.id for j in running)}"
            )
        return running

    # ---- round 0, trained once where the recipe is the same -----------------------------------------------
    def _recipe(self, cell: Cell) -> tuple:
        return cell.setting, cell.fold, cell.seed, self.plans[cell]["recipe_sha256"]

    def _group(self, cell: Cell) -> list[Cell]:
        """The cells that train round 0 as this one does, itself included."""
        return self._groups[self._recipe(cell)]

    def _round_0(self, cell: Cell) -> Path | None:
        """The round-0 checkpoint that a cell of the group has left."""
        paths = (self.folder(other) / _ROUND_0 for other in self._group(cell))
        return next((path for path in paths if path.is_file()), None)

    def _awaits_round_0(self, cell: Cell, running: Sequence[_Running]) -> bool:
        """Whether another cell is training the round 0 of this one right now."""
        group = self._group(cell)
        training = any(job.cell in group and progress(self.folder(job.cell)) == 0 for job in running)
        return training and self._round_0(cell) is None

    def _share(self, cell: Cell) -> list[str]:
        """Options: take round 0 from the group, or leave it to the group, or neither for a cell without a group."""
        if len(self._group(cell)) == 1:
            return []
        path = self._round_0(cell)
        if path is None or path.parent == self.folder(cell):
            return ["OSAL.SCHEDULE.KEEP_ROUNDS", "(0,)"]
        return ["OSAL.SCHEDULE.ROUND_0", str(path)]

    def _drop_round_0(self, cell: Cell) -> None:
        group = self._group(cell)
        if all(self.result_path(other).is_file() for other in group):
            for other in group:
                (self.folder(other) / _ROUND_0).unlink(missing_ok=True)

    def _free_slot(self, running: Sequence[_Running]) -> int:
        return min(set(range(self.jobs)) - {job.slot for job in running})

    def _collect(self, job: _Running) -> None:
        cell, result = job.cell, None
        if job.launched.poll() == 0:
            result = cell_result(
                self.folder(cell),
                cell,
                config_sha256=self.plans[cell]["config_sha256"],
                commit=self.commit,
                hardware=dict(job.launched.hardware),
            )
        if result is None:
            self.failures[cell.id] = f"{job.launched.end()}: {_last_line(self.folder(cell) / CONSOLE)}"
            self.say(f"FAILED {cell.id}: {self.failures[cell.id]}")
            return
        _drop_weights(self.folder(cell))  # first: nobody comes back to a cell with a result
        write_json(self.result_path(cell), result)
        self._durations[cell] = result["seconds"]
        self._drop_round_0(cell)
        aulc, final = (
            "-" if value is None else f"{value:.2f}" for value in (result["aulc"], result["final_mAP50"])
        )
        self.say(f"{cell.id}: AULC {aulc}, final mAP50 {final}, {result['seconds']:.0f} s")

    # ---- time -------------------------------------------------------------------------------------------
    def _remaining(self, cell: Cell) -> float | None:
        """Seconds that a cell still needs: the mean of its method where there is one, else of all, less what it has."""
        same = [s for done, s in self._durations.items() if done.method == cell.method]
        known = same or list(self._durations.values())
        return statistics.fmean(known) * (1 - progress(self.folder(cell))) if known else None

    def _report(self, left: Sequence[Cell], running: Sequence[_Running]) -> float:
        active = [job.cell for job in running]
        needs = [self._remaining(cell) for cell in [*active, *left]]
        eta = "unknown" if None in needs else _hours(sum(needs) / self.jobs)
        done = len(self.cells) - len(left) - len(running) - len(self.failures)
        now = ", ".join(f"{cell.id} {100 * progress(self.folder(cell)):.0f} %" for cell in active)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        self.say(f"[{done}/{len(self.cells)} cells{failed}, ETA {eta}] {now}")
        return time.monotonic()


def _drop_weights(folder: Path) -> None:
    """Remove the checkpoints that a complete run no longer needs; model_final.pth and round_0.pth stay."""
    write_bytes(folder / "last_checkpoint", b"model_final.pth")
    for pattern in ("boundary.pth", "initial_weights.pth", "model_[0-9]*.pth"):
        for path in folder.glob(pattern):
            path.unlink()


def _last_line(console: Path) -> str:
    """The last line of a console that is not empty."""
    if not console.is_file():  # a job that never ran
        return "(no output)"
    with open(console, "rb") as file:
        file.seek(max(0, console.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "(no output)")


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes else f"{seconds:.0f} s"
