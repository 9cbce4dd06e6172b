"""From a bare folder of real tiles to a measured detector, with Label Studio, killed at twenty random instants."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from annotator import boxes_in, label_open_tasks, truth_of
from commands import ROOT, Terminal
from label_studio_server import EXECUTABLE, WITHOUT, label_studio
from test_label_studio import sizes_of

from osal_detectron2.campaign.folder import Campaign
from osal_detectron2.campaign.label_studio import TOKEN, LabelStudio
from osal_detectron2.campaign.verify import verify_campaign
from osal_detectron2.core.ledger import Ledger

CONSEP = Path(os.environ.get("OSAL_SHARED", ROOT.parent / "shared")) / "data" / "consep"
CLASSES = "malignant_epithelial,inflammatory,healthy_epithelial,fibroblast,muscle,endothelial,other"
KNOWN = "malignant_epithelial,inflammatory"
KILLS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.access(EXECUTABLE, os.X_OK), reason=WITHOUT),
    pytest.mark.skipif(not CONSEP.is_dir(), reason="CoNSeP is not beside the repository (OSAL_SHARED)"),
]


def test_a_whole_campaign_on_real_tiles(tmp_path):
    (tmp_path / "scans").mkdir()
    for number in range(1, 7):
        shutil.copy(CONSEP / "images" / f"train_{number}.png", tmp_path / "scans")
    folder = Path(os.environ.get("OSAL_KEEP_CAMPAIGN", tmp_path)) / "colon"
    truth = truth_of(CONSEP / "train.json")
    (tmp_path / "server").mkdir()
    with label_studio(tmp_path / "server") as (url, token, _):
        terminal = Terminal(environment={TOKEN: token, "OMP_NUM_THREADS": "1"}, kills=KILLS, seed=2)
        words = ["--images", tmp_path / "scans", "--classes", CLASSES, "--known", KNOWN, "--minutes", 10]
        words += ["--batches", 2, "--tile", 250, "--device", "cpu"]
        said = terminal.run("init", folder, *words, most=4, within=8)
        assert "test tiles are not labelled" in said
        said = terminal.run("sync", folder, "--label-studio", url, most=4, within=3)
        campaign = Campaign.open(folder)
        api = LabelStudio(url, token)
        project = api.find_project(f"osal campaign {campaign.identity}")["id"]
        sizes = sizes_of(campaign)
        label_open_tasks(api, project, truth, sizes, most=3)
        assert "next      osal campaign sync" in terminal.run("sync", folder, most=2, within=2)
        label_open_tasks(api, project, truth, sizes)
        assert "next      osal campaign next" in terminal.run("sync", folder)
        terminal.run("next", folder, "--no-training", most=1, within=4)
        _shorten(folder / "config.yaml")
        for _ in range(2):
            said = terminal.run("next", folder, most=3, within=60)
            assert "next      osal campaign sync" in said, said
            terminal.run("sync", folder, most=2, within=2)
            assert label_open_tasks(api, project, truth, sizes)
            said = terminal.run("sync", folder)
        said = terminal.run("next", folder, most=3, within=60)
        while terminal.kills:
            terminal.run("sync", folder, most=1, within=2)
        print(said, terminal.killed, file=sys.stderr)
        assert "3 of 3 rounds finished" in said and "unclear  " not in said
        tasks = [t["data"]["osal_key"] for t in api.tasks(project)]
    assert len(terminal.killed) == KILLS and verify_campaign(folder) == []
    run = Ledger.open(campaign.run)
    labels = run.labels() | campaign.record("test").labels()
    assert sorted(tasks) == sorted(labels), "one task for each tile that was asked for"
    for key, tile in labels.items():
        assert sorted(tile.classes) == sorted(name for name, _ in boxes_in(truth, key, *sizes[key]))
    for number in range(3):
        metrics = json.loads((run.round_dir(number) / "metrics.json").read_text())
        assert metrics["bbox"]["mAP50"] >= 0 and metrics["test_record"]


def _shorten(config):
    """Rounds of half the iterations, with checkpoints for the kills; whether it learns is not what is tested."""
    text = config.read_text()
    assert "MIN_ITERS: 120" in text
    config.write_text(text.replace("MIN_ITERS: 120", "MIN_ITERS: 60") + "SOLVER:\n  CHECKPOINT_PERIOD: 20\n")
