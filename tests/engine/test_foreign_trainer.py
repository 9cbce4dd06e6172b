"""The code of docs/plug_in_hook.md, run as it stands, gives what our own trainer gives, and resumes."""

import re
import shutil

import pytest
import torch
from detectron2.config import get_cfg
from miniature import ROOT, decisions, record

from osal_detectron2.core.errors import ConfigError, LedgerError
from osal_detectron2.core.verify import verify
from osal_detectron2.deploy.load import load_detector
from osal_detectron2.oracles.status import run_status

PAGE = ROOT / "docs" / "plug_in_hook.md"


@pytest.fixture(scope="module")
def page():
    """The names that the code blocks of the page define."""
    names = {"__name__": "page"}
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    return names


@pytest.fixture(scope="module", params=["do_train", "MyTrainer", "train_simply"])
def run(request, page, tiny_config):
    """run(folder, resume) trains the miniature with one of the trainers of the page."""

    def go(folder, resume=False):
        cfg = page["load_config"](str(tiny_config), ["OUTPUT_DIR", str(folder)])
        trainer = page[request.param](cfg, resume=resume)
        if request.param == "MyTrainer":
            trainer.train()

    return go


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign") / "run"
    run(folder)
    return folder


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_another_trainer_gives_the_same_bytes(folder, reference):
    """Its run.json, selections, labels, scores, metrics and commits, and the weights that it trained."""
    assert decisions(folder) == decisions(reference)
    mine, ours = weights(folder), weights(reference)
    assert mine.keys() == ours.keys() and all(torch.equal(mine[k], ours[k]) for k in mine)
    assert verify(folder) == [] and (folder / "curve.csv").exists()


def test_our_tools_read_such_a_run(folder, reference, tmp_path):
    """Whatever became of config.yaml: Detectron2's `default_setup` leaves one that knows no classes."""
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / "config.yaml").write_text(get_cfg().dump())
    detector, same = load_detector(copy), load_detector(reference)
    assert detector.classes == same.classes == ("tumor", "lymphocyte", "stromal")
    theirs = same.model.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in detector.model.state_dict().items())
    shutil.rmtree(copy / "rounds/002")
    assert "start your own training script again, with resume=True" in run_status(copy)


def test_what_is_refused_leaves_no_run(page, tiny_config, tmp_path):
    """Heads without what the strategy reads: found out by the hook, before it begins the run."""
    folder = tmp_path / "run"
    options = ["OUTPUT_DIR", str(folder), "OSAL.AUXILIARY.BOX_BRANCHES", "[]"]
    with pytest.raises(ConfigError, match="dist_known"):
        page["do_train"](page["load_config"](str(tiny_config), options))
    assert not folder.exists()


def test_another_trainer_resumes(run, folder, reference, tmp_path):
    """From a checkpoint within round 1."""
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    for name in ("001", "002"):
        shutil.rmtree(copy / "rounds" / name)
    (copy / "last_checkpoint").write_text("model_0000005.pth")
    (copy / "model_final.pth").unlink()
    run(copy, resume=True)
    assert record(copy) == record(folder)
    mine, ours = weights(copy), weights(reference)
    assert all(torch.equal(mine[k], ours[k]) for k in mine)


def test_a_finished_run_is_not_begun_again(run, folder):
    before = record(folder)
    run(folder, resume=True)
    with pytest.raises(LedgerError, match="--resume"):
        run(folder)
    assert record(folder) == before


def test_the_examples_stay_short():
    """About twenty lines each, imports aside: who needs more has not plugged in, but rebuilt."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)
    bodies = [[line for line in b.splitlines() if line.strip() and "import" not in line] for b in blocks]
    assert max(len(body) for body in bodies) <= 25
