"""tools/al.py as a person runs it: in a process of its own, on a computer without torch and Detectron2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import osal

from osal_detectron2.core.labels import LabelFile
from osal_detectron2.core.ledger import SELECTION_SCHEMA, Ledger
from osal_detectron2.core.lock import RunLock
from osal_detectron2.core.store import write_json, write_npz
from osal_detectron2.oracles.export import export_batch

ROOT = Path(__file__).parents[2]
POOL = [f"tile{i}.png" for i in range(5)]

# Only numpy and the standard library: importing anything else that the project knows fails.
BLOCKED = [
    "torch",
    "torchvision",
    "detectron2",
    "cv2",
    "PIL",
    "scipy",
    "matplotlib",
    "pycocotools",
    "yaml",
    "yacs",
]
LAUNCH = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def al(*arguments):
    command = [
        sys.executable,
        "-c",
        LAUNCH.format(blocked=BLOCKED),
        str(ROOT / "tools/al.py"),
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def al_here(capsys):
    """`osal run` in this process, which is faster."""

    def call(*arguments):
        code = osal("run", *arguments)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)

    return call


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run 1"
    ledger = Ledger.create(
        folder,
        strategy="osal_nd",
        seed=3,
        known_classes=["tumor"],
        pool=POOL,
        plan=[2, 4],
        config={},
        dataset_sha256="",
        versions={},
    )
    selection = {"schema": SELECTION_SCHEMA, "round": "init", "strategy": "random", "selected": POOL[:2]}
    write_json(ledger.round_dir("init") / "selection.json", selection)
    records = {key: {"file_name": f"/data/{key}", "width": 50, "height": 40} for key in POOL}
    export_batch(
        folder,
        round_index="init",
        keys=POOL[:2],
        images=records,
        classes=["tumor", "other"],
        predictions={},
        nuclei={},
        tile_scores={},
        reasons={},
        seconds_per_nucleus=3,
        seconds_per_tile=1800,
    )
    return folder


@pytest.fixture
def labelled(tmp_path):
    content = {
        "images": [{"id": i, "file_name": key, "width": 50, "height": 40} for i, key in enumerate(POOL[:2])],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 9, 9]} for i in range(2)],
        "categories": [{"id": 1, "name": "Tumour"}],
    }
    path = tmp_path / "labelled.json"
    path.write_text(json.dumps(content))
    return path


def files(folder):
    """All but .lock: reading that in the process that holds it would give the lock away."""
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_from_waiting_batch_to_training_on(run, labelled):
    status = al("status", run)
    assert status.returncode == 0, status.stderr
    assert "osal_nd (seed 3)" in status.stdout and "labels for round init" in status.stdout
    assert (
        "2 pending" in status.stdout
        and "left      2 tiles, 60 minutes of annotation and 3 s" in status.stdout
    )
    assert status.stdout.rstrip().endswith(f"python {ROOT}/tools/al.py import '{run}' YOUR_FILE")

    before = files(run)
    refused = al("import", run, labelled)
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and "--map-class 'Tumour=tumor'" in refused.stderr
    dry = al("import", run, labelled, "--map-class", "Tumour=tumor", "--dry-run")
    assert dry.returncode == 0 and "would import 2 labelled" in dry.stdout
    assert files(run) == before

    done = al("import", run, labelled, "--map-class", "Tumour=tumor", "--annotator", "anna")
    assert done.returncode == 0 and "imported 2 labelled" in done.stdout
    assert done.stdout.rstrip().endswith(
        f"python {ROOT}/tools/train_al.py --config-file YOUR_CONFIG --resume OUTPUT_DIR '{run}'"
    )
    tiles = LabelFile.read(run / "rounds/init/labels.json").tiles
    assert {t.annotator for t in tiles.values()} == {"anna"}

    Ledger.open(run).commit("init", selected=POOL[:2], labels=tiles)
    (run / "config.yaml").write_text("")
    status = al("status", run).stdout
    assert (
        "2 to train on, 3 in the pool" in status
        and "2 labelled" in status
        and "train_al.py --resume" in status
    )
    assert "training, up to the end of round 0" in status


def test_two_people_disagree_and_one_is_chosen(run, labelled, al_here):
    common = ("import", run, labelled, "--map-class")
    assert al_here(*common, "Tumour=tumor", "--annotator", "anna").returncode == 0
    second = al_here(*common, "Tumour=other", "--annotator", "ben")
    assert second.returncode == 0 and "2 tiles stay open" in second.stdout
    assert f"{POOL[0]}: anna and ben: 0 nuclei the same, 1 tumor or other" in second.stdout
    assert not (run / "rounds/init/labels.json").exists()
    status = al_here("status", run).stdout
    assert "2 disputed" in status and status.rstrip().endswith(f"osal run prefer '{run}' NAME")
    nobody = al_here("prefer", run, "carl")
    assert nobody.returncode == 1 and "annotators so far: anna, ben" in nobody.stderr
    assert al_here("prefer", run, "ben", POOL[1]).returncode == 0
    chosen = al_here("prefer", run, "anna")
    assert chosen.returncode == 0 and f"anna's answer counts for {POOL[0]}" in chosen.stdout
    tiles = LabelFile.read(run / "rounds/init/labels.json").tiles
    assert [tiles[key].annotator for key in POOL[:2]] == ["anna", "ben"]
    assert "no tile is in dispute" in al_here("prefer", run, "anna").stdout


def test_empty_tiles_need_a_list_of_those_that_were_opened(run, labelled, tmp_path, al_here):
    content = json.loads(labelled.read_text())
    content["annotations"] = []
    labelled.write_text(json.dumps(content))
    refused = al_here("import", run, labelled, "--treat-empty-as", "empty")
    assert refused.returncode == 1 and "2 tiles have no box and would become labels" in refused.stderr
    assert f"{POOL[0]}, {POOL[1]}" in refused.stderr and "--opened" in refused.stderr
    listed = tmp_path / "opened.txt"
    listed.write_text(POOL[1] + "\n")
    done = al_here("import", run, labelled, "--treat-empty-as", "empty", "--opened", listed)
    assert done.returncode == 0 and "1 empty" in done.stdout and f"still awaited: {POOL[0]}" in done.stdout
    assert "cannot be read" in al_here("import", run, labelled, "--opened", tmp_path / "none.txt").stderr


def test_an_import_waits_for_a_running_training(run, labelled):
    with RunLock(run):
        before = files(run)
        refused = al("import", run, labelled, "--map-class", "Tumour=tumor")
        assert files(run) == before
    assert refused.returncode == 1 and f"process {os.getpid()}" in refused.stderr


def test_verify_exits_1_with_findings(run, labelled):
    al("import", run, labelled, "--map-class", "Tumour=tumor")
    path = run / "rounds/init/labels.json"
    Ledger.open(run).commit("init", selected=POOL[:2], labels=LabelFile.read(path).tiles)
    sound = al("verify", run)
    assert sound.returncode == 0 and "complete and unchanged" in sound.stdout
    path.write_text(path.read_text().replace("tumor", "other"))
    broken = al("verify", run)
    assert broken.returncode == 1 and f"{path}: changed" in broken.stdout


def test_why(run):
    write_npz(run / "rounds/init/scores.npz", keys=np.array(POOL), score=np.arange(5.0))
    answer = al("why", run, POOL[1])
    assert answer.returncode == 0 and "score 1 (4 of 5)" in answer.stdout and "place 2 of 2" in answer.stdout
    wrong = al("why", run, "tile1.jpg")
    assert wrong.returncode == 1 and "do you mean tile1.png" in wrong.stderr


@pytest.mark.parametrize(
    "command", [("status",), ("verify",), ("why", "a"), ("import", "x.json"), ("prefer", "anna")]
)
def test_a_folder_that_is_no_run_is_left_as_it_is(tmp_path, command):
    result = al(command[0], tmp_path, *command[1:])
    assert result.returncode == 1 and "no run.json" in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_mapping_and_help(run, labelled):
    assert "OLD=NEW" in al("import", run, labelled, "--map-class", "Tumour").stderr
    assert "al.py status" in al("--help").stdout
    for command in ("import", "why"):
        text = al(command, "--help").stdout
        assert f"example:\n  python {ROOT}/tools/al.py {command} output/run1" in text
