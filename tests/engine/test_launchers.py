"""Other ways to start several processes: torchrun, and one command on each machine."""

import json
import os
import socket
import subprocess
import sys

import programs

from osal_detectron2.core.verify import verify

SHORT = ("OSAL.STRATEGY", "random", "OSAL.BUDGET.NUM_QUERIES", "1", "OSAL.SCHEDULE.MIN_ITERS", "2")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": programs.python()}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def words(config, folder, *flags):
    return [
        "-m",
        "osal_detectron2",
        "train",
        "--config-file",
        str(config),
        *flags,
        "OUTPUT_DIR",
        str(folder),
        *SHORT,
    ]


def selected(folder) -> list[str]:
    assert verify(folder) == []
    return json.loads((folder / "rounds/000/selection.json").read_text())["selected"]


def test_torchrun_and_two_machines_query_the_same(tiny_config, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = subprocess.run(
        [*torchrun, *words(tiny_config, tmp_path / "torchrun")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    url = f"tcp://127.0.0.1:{free_port()}"
    machines = [
        subprocess.Popen(
            [
                programs.python(),
                *words(
                    tiny_config,
                    tmp_path / "machines",
                    "--num-machines",
                    "2",
                    "--machine-rank",
                    str(rank),
                    "--dist-url",
                    url,
                ),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )  # fmt: skip
        for rank in (0, 1)
    ]
    outputs = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert selected(tmp_path / "torchrun") == selected(tmp_path / "machines")
