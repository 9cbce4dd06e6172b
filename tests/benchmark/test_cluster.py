"""`--cluster slurm` on cells of the miniature: real submitit, real jobs, and Slurm's commands of slurm.py beside it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
from programs import osal
from test_runner import GRID, ONE, PYTHON, TOOL, result

from osal_detectron2.benchmark.cluster import SlurmLauncher, slurm_options
from osal_detectron2.commands.benchmark import OUT_OF_TIME
from osal_detectron2.core.errors import ConfigError

VOLATILE = ("seconds", "commit", "hardware")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of a cluster whose commands are on the PATH."""
    folder, commands = tmp_path / "slurm", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    for name in ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol"):
        (commands / name).write_text(f'#!/bin/sh\nexec {PYTHON} -SE {commands / "py" / name} "$@"\n')
        (commands / name).chmod(0o755)
        (commands / "py").mkdir(exist_ok=True)
        (commands / "py" / name).symlink_to(Path(__file__).with_name("slurm.py"))
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("OSAL_TEST_SLURM", str(folder))
    monkeypatch.setenv("OSAL_TEST_PYTHON", PYTHON)
    yield folder
    for number in (path.stem for path in folder.glob("*.sh")):
        subprocess.run(["scancel", number], check=True)


def measured(output, method):
    """A result without what two runs of the same differ in."""
    content = result(output, method)
    rounds = [{key: value for key, value in entry.items() if key != "seconds"} for entry in content["rounds"]]
    return {**content, "rounds": rounds, **dict.fromkeys(VOLATILE)}


def states(slurm):
    return {path.stem: path.read_text() for path in slurm.glob("*.state")}


def one_cell(grid_file, tmp_path) -> list[str]:
    """The words of `osal benchmark` for one cell as a job."""
    words = [str(grid_file), "--output", str(tmp_path / "out"), "--only", "random", *ONE]
    return [*words, "--cluster", "slurm", "--max-minutes", "2"]


def test_jobs_of_slurm_give_the_results_of_local_cells(grid_file, finished, slurm, tmp_path):
    words = [str(grid_file), "--output", str(tmp_path / "out"), "--jobs", "2", "--only", "random,full", *ONE]
    words += [
        "--max-minutes",
        "2",
        "--cluster",
        "slurm",
        "--slurm",
        "partition=gpu,gpus-per-node=1,time=240",
        "--slurm",
        "reservation=lab",
    ]
    assert osal("benchmark", *words) == 0
    for method in ("random", "full"):
        assert measured(tmp_path / "out", method) == measured(finished, method)
        assert result(tmp_path / "out", method)["hardware"]["cores"] >= 1
    lines = (slurm / "1.sh").read_text().splitlines()
    asked = [
        "partition=gpu",
        "gpus-per-node=1",
        "time=240",
        "reservation=lab",
        "job-name=osal-3_4-all-random-0",
    ]
    assert {f"#SBATCH --{option}" for option in asked} <= set(lines)
    assert states(slurm) == {"1": "COMPLETED", "2": "COMPLETED"}


def test_a_job_outlives_a_time_limit_and_the_grid_and_is_found_again(
    grid_file, finished, slurm, tmp_path, capsys
):
    words = one_cell(grid_file, tmp_path)
    run = tmp_path / "out/cells/3_4/all/random/0"
    process = subprocess.Popen([PYTHON, "-c", GRID, programs.python(), TOOL, *words])
    for path in (run / "rounds/init/commit.json", slurm / "1.requeued"):
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.02)
        if (
            path.name == "commit.json"
        ):  # what Slurm sends before the time limit, and when it needs the machine
            subprocess.run(["scancel", "1", "--signal", "USR2"], check=True)
    process.kill()
    assert process.wait() == -9 and states(slurm)["1"] in ("PENDING", "RUNNING")
    assert osal("benchmark", *words) == 0
    assert "1 of them are queued or running already: 3_4/all/random/0" in capsys.readouterr().out
    assert measured(tmp_path / "out", "random") == measured(finished, "random")
    assert states(slurm) == {"1": "COMPLETED"}  # no second job


def test_at_the_time_limit_of_the_grid_jobs_are_cancelled(grid_file, slurm, tmp_path):
    (slurm / "hold").touch()
    words = one_cell(grid_file, tmp_path)
    assert osal("benchmark", *words, "--max-minutes", "0.01") == OUT_OF_TIME
    assert states(slurm) == {"1": "CANCELLED"}


def test_a_cell_whose_job_dies_is_a_failure_that_names_the_job(
    grid_file, slurm, tmp_path, capsys, monkeypatch
):
    import submitit

    monkeypatch.setattr(submitit.SlurmJob, "_results_timeout_s", 0)
    monkeypatch.setenv("OSAL_TEST_PYTHON", "/bin/false")
    words = one_cell(grid_file, tmp_path)
    assert osal("benchmark", *words) == 1
    assert "Slurm's job 1 ended as FAILED, see " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["partition"], "--slurm partition: write NAME=VALUE"),
        (["time=4:00:00"], "--slurm time=4:00:00: give whole minutes"),
        (["nodes=2"], "--slurm nodes: a cell is one task on one machine"),
    ],
)
def test_wrong_options_are_one_line(slurm, words, message):
    with pytest.raises(ConfigError, match=message):
        SlurmLauncher(slurm_options(words))


def test_what_sbatch_refuses_is_said_in_its_words(grid_file, slurm, tmp_path, capsys):
    words = one_cell(grid_file, tmp_path)
    assert osal("benchmark", *words, "--slurm", "partition=nowhere") == 1
    assert "invalid partition specified: nowhere; the options of --slurm" in capsys.readouterr().err


def test_values_may_hold_commas():
    assert slurm_options(["nodelist=a,b,time=5", "gres=gpu:1"]) == {
        "nodelist": "a,b",
        "time": "5",
        "gres": "gpu:1",
    }


def test_without_slurm_or_submitit_the_remedy_is_named(monkeypatch):
    with pytest.raises(ConfigError, match="--cluster slurm: .*srun.* Start the grid where"):
        SlurmLauncher({})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'osal_detectron2\[cluster\]'"):
        SlurmLauncher({})
