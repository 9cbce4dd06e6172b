"""Starts the cells of a grid as jobs of Slurm, by submitit (the extra `cluster`)."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.errors import ConfigError
from .launch import Process, stop
from .provenance import hardware

_DAY_MINUTES = 24 * 60
_REQUEUES = 100  # at a job's time limit
_STOP_SECONDS = 60.0  # from scancel to the end of the jobs; Slurm kills after 30 s by default


class CellJob:
    """What a job runs: one cell, on the machine and with the GPUs that Slurm gave it.

    submitit pickles it, and calls `checkpoint` some 90 s before the time limit, and when the job is preempted: the job
    goes back into the queue, and the cell then resumes.
    """

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.words, self.folder, self.environment = list(words), folder, dict(environment)
        self._process: Process | None = None

    def __call__(self) -> dict:
        """{"code": exit code, "hardware": of this machine}."""
        gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        environment = {
            "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK", "1"),
            **os.environ,
            **self.environment,
        }
        self._process = Process(
            self.words, folder=self.folder, environment=environment, hardware=hardware(gpus)
        )
        while (code := self._process.poll()) is None:  # no wait(): `checkpoint` comes in between, by a signal
            time.sleep(0.2)
        return {"code": code, "hardware": self._process.hardware}

    def checkpoint(self) -> Any:
        if self._process is not None:
            stop([self._process])
        return _submitit().helpers.DelayedSubmission(CellJob(self.words, self.folder, self.environment))


class SlurmJob:
    """A cell as a job, queued or running."""

    def __init__(self, job: Any) -> None:
        self.job, self.hardware, self._code, self._end = job, {}, None, ""

    def poll(self) -> int | None:
        if self._code is None and self.job.done():
            try:
                found = self.job.result()
                self._code, self.hardware = found["code"], found["hardware"]
                self._end = f"exit code {self._code} of Slurm's job {self.job.job_id}"
            except Exception:  # no result, or the traceback of one: submitit raises several kinds
                state = self.job.watcher.get_state(self.job.job_id, mode="force")
                self._code = 1
                self._end = f"Slurm's job {self.job.job_id} ended as {state}, see {self.job.paths.stderr}"
        return self._code

    def end(self) -> str:
        return self._end


class SlurmLauncher:
    """Jobs of Slurm.

    A job outlives a grid that was killed, and the next start finds it by the files that submitit keeps in the folder of
    its cell.

    Args:
        options: those of sbatch, by their long names: partition, account, gpus_per_node, cpus_per_task, mem, time ...
            time: minutes, a day by default; a job that needs longer is queued again by itself.

    Raises ConfigError where submitit or Slurm is missing, or the time is not in minutes.
    """

    poll_seconds = 1.0

    def __init__(self, options: Mapping[str, str]) -> None:
        options = {
            "time": str(_DAY_MINUTES),
            **{name.replace("-", "_"): value for name, value in options.items()},
        }
        if not options["time"].isdecimal():
            raise ConfigError(f"--slurm time={options['time']}: give whole minutes, e.g. time=240")
        known = _submitit().SlurmExecutor._valid_parameters() - {"setup", "teardown", "srun_args"}
        self.parameters: dict[str, Any] = {name: value for name, value in options.items() if name in known}
        self.parameters["time"] = int(options["time"])
        for name in ("signal_delay_s", "nodes", "ntasks_per_node", "array_parallelism"):
            if name in self.parameters:
                raise ConfigError(f"--slurm {name}: a cell is one task on one machine; leave it out")
        # What submitit does not know, sbatch may.
        self.parameters["additional_parameters"] = {
            name.replace("_", "-"): value for name, value in options.items() if name not in known
        }
        self._executor(Path("."))

    def start(
        self, words: Sequence[str], *, folder: Path, slot: int, environment: Mapping[str, str]
    ) -> SlurmJob:
        """Submit a job. Raises ConfigError with sbatch's message where it takes none."""
        executor = self._executor(folder / "slurm")
        name = "osal-" + "-".join(folder.parts[-4:])
        changed = {key: value for key, value in environment.items() if os.environ.get(key) != value}
        os.environ.update(
            changed
        )  # sbatch hands the environment on; PYTHONPATH is what the job finds CellJob by
        executor.update_parameters(job_name=name, **self.parameters)
        try:
            return SlurmJob(executor.submit(CellJob(words, folder, changed)))
        except (OSError, _submitit().core.utils.FailedJobError) as error:
            last = [line for line in str(error).splitlines() if line.strip()][-1]
            raise ConfigError(
                f"sbatch takes no job: {last}; the options of --slurm are passed to it"
            ) from None

    def find(self, folder: Path) -> SlurmJob | None:
        ids = [path.name.split("_")[0] for path in folder.glob("slurm/*_submitted.pkl")]
        if not ids:
            return None
        job_id = max(ids, key=int)
        return SlurmJob(_submitit().SlurmJob(folder / "slurm", job_id)) if _queued(job_id) else None

    def stop(self, launched: Sequence[SlurmJob]) -> None:
        """scancel, and wait until the jobs have ended."""
        left = [run.job for run in launched if run.poll() is None]
        for job in left:
            job.cancel(check=False)
        deadline = time.monotonic() + _STOP_SECONDS
        while left and time.monotonic() < deadline:
            time.sleep(0.2)
            left = [job for job in left if _queued(job.job_id)]

    def _executor(self, folder: Path) -> Any:
        try:
            return _submitit().SlurmExecutor(folder, max_num_timeout=_REQUEUES)
        except RuntimeError as error:
            raise ConfigError(f"--cluster slurm: {error} Start the grid where sbatch and srun are") from None


def _queued(job_id: str) -> bool:
    """Whether a job waits or runs. Raises ConfigError where Slurm does not say."""
    asked = subprocess.run(["squeue", "--noheader", f"--jobs={job_id}"], capture_output=True, text=True)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        raise ConfigError(
            f"squeue does not say whether job {job_id} still runs ({asked.stderr.strip()}); start again"
        )
    return bool(asked.stdout.strip())


def slurm_options(texts: Sequence[str]) -> dict[str, str]:
    """{name: value} of "partition=gpu,time=240" and the like. Raises ConfigError for a word that is none."""
    pairs = [pair.partition("=") for text in texts for pair in re.split(r",(?=[\w-]+=)", text)]
    if bad := [name for name, equals, value in pairs if not (name and equals and value)]:
        raise ConfigError(
            f"--slurm {bad[0]}: write NAME=VALUE, with commas, e.g. partition=gpu,gpus_per_node=1"
        )
    return {name: value for name, _, value in pairs}


def _submitit() -> ModuleType:
    try:
        import submitit
    except ImportError:
        raise ConfigError(
            "--cluster slurm needs submitit: python -m pip install 'osal_detectron2[cluster]' (or submitit)"
        ) from None
    return submitit
