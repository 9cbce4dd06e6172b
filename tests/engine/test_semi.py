"""The mean teacher in a run (OSAL.SEMI); on two processes: test_processes.py."""

import os
import signal

import pytest
import torch
from miniature import SEMI, record, train

from osal_detectron2.core.verify import verify


def weights(folder) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "model_final.pth", weights_only=True)
    return {**state["model"], **{f"teacher.{k}": v for k, v in state["teacher"].items()}}


def same(mine, theirs) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.fixture(scope="module")
def taught(tiny_config, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught") / "run"
    process = start(tiny_config, ["OUTPUT_DIR", folder, *SEMI])
    process.join()
    assert process.exitcode == 0 and verify(folder) == []
    return folder


def test_the_teacher_changes_what_the_target_learns(taught, reference):
    mine, plain = weights(taught), torch.load(reference / "model_final.pth", weights_only=True)["model"]
    assert any(not torch.equal(mine[k], plain[k]) for k in plain if k.startswith("target.roi_heads"))
    assert record(taught)["rounds/init/selection.json"] == record(reference)["rounds/init/selection.json"]


def test_a_kill_in_mid_round_changes_nothing(tiny_config, taught, start, tmp_path):
    """The latest periodic checkpoint stands two iterations after a boundary: the teacher goes on from there."""
    folder = tmp_path / "run"
    process = start(tiny_config, ["OUTPUT_DIR", folder, *SEMI])
    while process.is_alive() and not (folder / "model_0000005.pth").exists():
        process.join(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (folder / "model_final.pth").exists()
    again = start(tiny_config, ["OUTPUT_DIR", folder, *SEMI], ("--resume",))
    again.join()
    assert again.exitcode == 0 and record(folder) == record(taught)
    assert same(weights(folder), weights(taught))


def test_one_detector_alone_is_taught_too(tiny_config, tmp_path):
    options = (*SEMI, "OSAL.STRATEGY", "random", "OSAL.DATA.UNKNOWN_POLICY", "class")
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, *options) == 0
    assert verify(tmp_path) == [] and "teacher" in torch.load(tmp_path / "boundary.pth", weights_only=True)


def test_heads_that_cannot_leave_boxes_out_are_refused(tiny_config, tmp_path, capsys):
    options = (*SEMI, "OSAL.STRATEGY", "random", "MODEL.ROI_HEADS.NAME", "StandardROIHeads")
    assert train(tiny_config, "OUTPUT_DIR", tmp_path / "run", *options) == 1
    assert "OSAL.SEMI.ENABLED needs open-set ROI heads" in capsys.readouterr().err
    assert not (tmp_path / "run/rounds").exists()
