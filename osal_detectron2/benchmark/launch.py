"""Starts the cells of a grid as processes of this machine; cluster.py starts them as jobs of Slurm."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

CONSOLE = "console.txt"  # in the folder of a cell: all that it printed
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL; a run survives both

# Two detectors' activations come and go at each step: without these, glibc hands the pages back each time.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}


class Launched(Protocol):
    """A cell that was started.

    hardware: of the machine that it ran on, {} before it ended.
    """

    hardware: Mapping

    def poll(self) -> int | None:
        """The exit code, or None while it runs or waits to run."""

    def end(self) -> str:
        """How it ended, in words."""


class Launcher(Protocol):
    """Starts the processes of cells.

    poll_seconds: how often to ask whether one has ended.
    """

    poll_seconds: float

    def start(
        self, words: Sequence[str], *, folder: Path, slot: int, environment: Mapping[str, str]
    ) -> Launched:
        """Run `words` with CONSOLE in `folder` as its output; `slot` is the number of the job among those at a time."""

    def find(self, folder: Path) -> Launched | None:
        """What an earlier grid, which was killed, has left running in `folder`."""

    def stop(self, launched: Sequence[Launched]) -> None:
        """End what still runs; it goes on with the next start of the grid."""


class Process:
    """A cell as a process of this machine, which ends with the grid however that ends (on Linux)."""

    def __init__(
        self, words: Sequence[str], *, folder: Path, environment: Mapping[str, str], hardware: Mapping
    ) -> None:
        self.hardware = hardware
        with open(folder / CONSOLE, "ab") as console:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**_KEEP_MEMORY, **environment},
                start_new_session=True,  # Ctrl-C comes to this process alone, which then stops the cells in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def end(self) -> str:
        return f"exit code {self._process.returncode}"

    def wait(self, seconds: float) -> None:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.wait(seconds)

    def send(self, signal_number: int) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal_number)


class LocalLauncher:
    """Processes of this machine.

    Args:
        jobs: cells at a time. gpus: given to the jobs in turn as CUDA_VISIBLE_DEVICES; empty leaves it alone.
        cores: CPU cores, shared among the jobs as OMP_NUM_THREADS, unless that is set.
        hardware: written into the results.
    """

    poll_seconds = 0.2

    def __init__(
        self, *, jobs: int = 1, gpus: Sequence[str] = (), cores: int = 1, hardware: Mapping | None = None
    ) -> None:
        self.gpus, self.hardware = tuple(gpus), dict(hardware or {})
        self.threads = str(max(1, cores // jobs))

    def start(
        self, words: Sequence[str], *, folder: Path, slot: int, environment: Mapping[str, str]
    ) -> Process:
        environment = {"OMP_NUM_THREADS": self.threads, **environment}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        return Process(words, folder=folder, environment=environment, hardware=self.hardware)

    def find(self, folder: Path) -> None:
        return None  # a process does not outlive its grid

    def stop(self, launched: Sequence[Process]) -> None:
        stop(launched)


def stop(processes: Sequence[Process]) -> None:
    """SIGTERM, then SIGKILL, to the process groups of all."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.send(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(_GRACE_SECONDS)


def _die_with_parent() -> None:
    """In a new cell: end when this process is killed, so that the next one finds the run folder free."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
