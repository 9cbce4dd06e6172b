"""What a run shows: a short screen, a full log.txt, an ETA of the whole, and one line when it is interrupted."""

import os
import re
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage
from miniature import ROOT

from osal_detectron2.core.round_files import read_timing
from osal_detectron2.core.schedule import RoundSchedule
from osal_detectron2.core.store import write_json
from osal_detectron2.engine.logs import ScreenWriter, clock, starting_weights


def start_and_interrupt(config, folder, *flags):
    """The tool as a user calls it, stopped by Ctrl-C (to all its processes) after its first line on the training."""
    words = [sys.executable, ROOT / "tools/train_al.py", "--config-file", config, *flags]
    words += ["OUTPUT_DIR", folder, "OSAL.SCHEDULE.MIN_ITERS", "5000"]
    with subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # under nohup and & it is ignored
    ) as process:
        shown = []
        for line in process.stdout:
            shown.append(line.rstrip("\n"))
            if ", lr " in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
        return process.returncode, shown + rest.splitlines(), errors.splitlines()


def check_interrupted(code, errors, folder):
    assert code == 130, errors
    (line,) = errors
    command = shlex.split(line.partition(": ")[2])
    assert (
        command[:2] == ["python", f"{ROOT}/tools/train_al.py"]
        and "--resume" in command
        and str(folder) in command
    )


def test_the_screen_is_short_the_log_is_full_and_ctrl_c_takes_one_line(tiny_config, tmp_path):
    folder = tmp_path / "run"
    code, shown, errors = start_and_interrupt(tiny_config, folder)
    check_interrupted(code, errors, folder)
    training, *_ = [line for line in shown if ", lr " in line]
    assert re.fullmatch(
        r"\[[\d:]{8}\] round 0 of 2, \d+/5000: loss [\d.e+-]+ target \+ [\d.e+-]+ auxiliary, lr [\d.e-]+, "
        r"ETA (\d+:\d\d:\d\d|unknown yet)",
        training,
    )
    full = (folder / "log.txt").read_text()
    detail = next(line for line in full.splitlines() if "target/loss_rpn_cls" in line)
    assert "auxiliary/loss_box_reg" in detail and len(training) < len(detail) / 4
    assert "target/loss" not in "\n".join(shown) and "iteration 0 of 5000" in full
    for text in ("\n".join(shown), full):
        assert "from scratch" not in text and "random ones" in text
        assert "Warning" not in text and "fx_tracing" not in text


@pytest.mark.slow
def test_ctrl_c_of_several_processes_takes_one_line(tiny_config, tmp_path):
    code, _, errors = start_and_interrupt(tiny_config, tmp_path / "run", "--num-gpus", "2")
    check_interrupted(code, errors, tmp_path / "run")


@pytest.fixture
def trainer(tmp_path):
    """Three rounds of 10, 20 and 30 iterations, 4 tiles a step, 40 training and 20 test tiles."""
    return SimpleNamespace(
        schedule=RoundSchedule(labelled=(4, 8, 12), boundaries=(10, 30, 60)),
        max_iter=60,
        session=SimpleNamespace(batch_size=4, plan=SimpleNamespace(train=[0] * 40, test=[0] * 20)),
        steps=SimpleNamespace(timing=lambda number: read_timing(tmp_path / f"{number:03d}")),
    )


def test_the_eta_counts_training_evaluations_and_queries_that_are_left(trainer, tmp_path):
    writer = ScreenWriter(trainer)
    with EventStorage(0) as storage:
        assert writer.seconds_left(1) is None, "nothing is measured yet"
        storage.put_scalar("time", 2.0)
        # 2 s a step of 4 tiles: a pass takes 0.1 s a tile until one was measured. 3 evaluations, 2 queries.
        assert writer.seconds_left(5) == pytest.approx(55 * 2 + 3 * 20 * 0.1 + 2 * 40 * 0.1)
        write_json(tmp_path / "000" / "timing.json", {"evaluate": 7.0, "query": 30.0})
        assert writer.seconds_left(10) == pytest.approx(50 * 2 + 2 * 7 + 30)
        write_json(tmp_path / "001" / "timing.json", {"evaluate": 8.0, "query": 20.0})
        assert writer.seconds_left(59) == pytest.approx(2 + 8)
        assert writer.seconds_left(60) == 0
    assert clock(3723.4) == "1:02:03"


def test_what_training_starts_from_is_said_truly():
    assert "random" in starting_weights({"MODEL.WEIGHTS": "", "MODEL.TORCHVISION.WEIGHTS": ""})
    said = starting_weights({"MODEL.WEIGHTS": "", "MODEL.TORCHVISION.WEIGHTS": "mobilenet.pth"})
    assert "backbone from mobilenet.pth" in said


def test_the_data_check_has_nothing_but_its_findings_on_the_screen(tiles, tiny_config):
    words = [
        sys.executable,
        "tools/check_dataset.py",
        "--json",
        tiles / "annotations/random_fold1_train.json",
    ]
    words += ["--image-root", tiles / "rgb", "--known", "tumor", "--config-file", tiny_config]
    done = subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.stderr == "" and "errors" in done.stdout
