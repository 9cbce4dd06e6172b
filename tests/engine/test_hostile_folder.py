"""A run folder is data: whatever its files name, reading it runs nothing."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from miniature import train
from programs import osal

from osal_detectron2.core.errors import OSALError
from osal_detectron2.core.trust import TRUST
from osal_detectron2.deploy.load import load_detector
from osal_detectron2.engine.checkpoint import AtomicCheckpointer
from osal_detectron2.engine.saved_config import load_saved

LAZY = "model: {_target_: detectron2.modeling.GeneralizedRCNN}\noptimizer: {}\n"
PAYLOADS = {
    "apply": "x: !!python/object/apply:os.system ['touch MARK']\n",
    "new": "x: !!python/object/new:os.system ['touch MARK']\n",
    "name": "x: !!python/name:os.system ''\n",
    "module": "x: !!python/module:os ''\n",
    "partial": "x: !!python/object/apply:functools.partial\n  state: !!python/tuple [!!python/name:os.system '', "
    "!!python/tuple ['touch MARK'], {}, null]\n",
    "target": "dataloader: {test_augmentations: [{_target_: os.system, command: touch MARK}]}\n",
    "of a target": "x: {_target_: {_target_: os.system, command: touch MARK}}\n",
    "detectron2's locate": "x: {_target_: detectron2.utils.registry.locate, name: os.system}\n",
    "an import of a module": "x: {_target_: detectron2.modeling.backbone.utils.math.ceil}\n",
    "a builtin": "x: {_target_: builtins.eval, source: \"open('MARK', 'w')\"}\n",
}


def lazy_run(folder, payload, *, header):
    """A folder as `osal lazy` leaves it, with a payload in its config."""
    folder.mkdir()
    (folder / "model_final.pth").write_bytes(b"")
    name = "run.yaml" if header else "config.yaml"
    (folder / name).write_text(LAZY + payload.replace("MARK", str(folder / "executed")))
    if header:
        run = {
            "schema": "osal-run/1",
            "front": "lazy",
            "config": {},
            "plan": [1],
            "pool": ["a"],
            "strategy": "random",
        }
        (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_no_reader_runs_what_a_lazy_config_names(tmp_path, payload, capsys):
    run = lazy_run(tmp_path / "run", payload, header=True)
    old = lazy_run(tmp_path / "old", payload, header=False)
    for folder in (run, old):
        with pytest.raises(OSALError, match="nothing was run") as refused:
            load_detector(folder)
        assert str(folder) in str(refused.value) and "\n" not in str(refused.value)
    assert train("", "OUTPUT_DIR", run, flags=("--resume",)) == 1
    assert "nothing was run" in capsys.readouterr().err
    assert not list(tmp_path.rglob("executed"))


def test_the_commands_say_so_in_one_line(tmp_path, capsys):
    run = lazy_run(tmp_path / "run", PAYLOADS["apply"], header=True)
    (tmp_path / "images").mkdir()
    out = ["--out", str(tmp_path / "out")]
    assert osal("predict", run, "--images", tmp_path / "images", *out) == 1
    assert osal("export", run, *out) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 2 and all("nothing was run" in line for line in errors)
    assert not (run / "executed").exists()


def test_a_package_is_trusted_by_name(tmp_path, monkeypatch):
    path = tmp_path / "run.yaml"
    path.write_text(LAZY + "x: {_target_: mine.network}\n")
    (tmp_path / "mine.py").write_text("def network():\n    return 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OSALError, match="add --trust PACKAGE"):
        load_saved(str(path))
    assert "mine" not in sys.modules, "not even imported"
    monkeypatch.setenv(TRUST, "mine")
    assert load_saved(str(path)).x._target_ == "mine.network"


def test_a_yaml_config_runs_nothing_either(reference, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    for name in ("run.yaml", "config.yaml"):
        text = (reference / "run.yaml").read_text()
        payload = PAYLOADS["apply"].replace("MARK", str(folder / "executed"))
        (folder / name).write_text(text.replace("VERSION: 2", payload.strip()))
    with pytest.raises(OSALError, match="cannot be read as a config"):
        load_detector(folder)
    for options in (("",), (folder / "config.yaml",)):
        assert train(*options, "OUTPUT_DIR", folder, flags=("--resume",)) == 1
        assert "python/object/apply:os.system" in capsys.readouterr().err
    assert not (folder / "executed").exists()


def test_a_config_in_a_folder_reads_no_file_elsewhere(reference, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    (tmp_path / "secret.yaml").write_text("MODEL: {DEVICE: cpu}\n")
    content = yaml.safe_load((folder / "run.yaml").read_text())
    (folder / "run.yaml").write_text(yaml.safe_dump({"_BASE_": "../secret.yaml", **content}))
    with pytest.raises(OSALError, match="_BASE_"):
        load_detector(folder)


def test_the_record_of_a_run_runs_nothing_either(reference, tmp_path, capsys):
    """status, verify, why and report, of a folder in which every file that they read has something in store."""
    folder, mark = tmp_path / "run", tmp_path / "executed"
    shutil.copytree(reference, folder)
    for name in ("run.yaml", "config.yaml"):
        (folder / name).write_text(PAYLOADS["apply"].replace("MARK", str(mark)))
    for scores in folder.glob("rounds/*/scores.npz"):
        np.savez(scores, keys=np.array(["a"]), score=np.array([Payload(mark)], dtype=object))
    (folder / "last_checkpoint").write_text("../../elsewhere.pth")
    tile = json.loads((folder / "run.json").read_text())["pool"][0]
    before = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    codes = [osal("run", *words) for words in
             (("status", folder), ("verify", folder), ("why", folder, tile), ("report", folder))]  # fmt: skip
    said = capsys.readouterr()
    assert codes[1:3] == [1, 1] and "scores.npz" in said.out and "is not a score file" in said.err, said
    assert "Traceback" not in said.out + said.err
    assert {
        path for path in tmp_path.rglob("*") if folder not in path.parents
    } == before and not mark.exists()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_weights_are_no_programs(tmp_path):
    for name in ("weights.pkl", "weights.pth"):
        (tmp_path / name).write_bytes(pickle.dumps({"model": Payload(tmp_path / "executed")}))
        with pytest.raises(OSALError, match="cannot be loaded as weights"):
            AtomicCheckpointer(torch.nn.Linear(1, 1)).load(str(tmp_path / name))
    assert not (tmp_path / "executed").exists()


def test_the_last_checkpoint_is_one_of_the_folder(tmp_path):
    (tmp_path / "run").mkdir()
    torch.save({"model": {}}, tmp_path / "elsewhere.pth")
    (tmp_path / "run/last_checkpoint").write_text("../elsewhere.pth")
    (tmp_path / "run/run.yaml").write_text("MODEL: {}\n")
    assert not AtomicCheckpointer(torch.nn.Linear(1, 1), str(tmp_path / "run")).has_checkpoint()
    with pytest.raises(OSALError, match="model_final.pth: no such file"):
        load_detector(tmp_path / "run")
