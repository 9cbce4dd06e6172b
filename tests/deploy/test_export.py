"""An exported detector finds the same without this package: in stock Detectron2, and as TorchScript with torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from programs import osal

from osal_detectron2.deploy.detect import detect
from osal_detectron2.deploy.export import export_detector
from osal_detectron2.deploy.images import records_of_folder
from osal_detectron2.deploy.load import load_detector

# Importing any of these ends the child with an error.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Block())
"""

STOCK = """
import os, numpy, torch
torch.set_num_threads(1)
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
try:
    import osal_detectron2
    raise SystemExit("osal_detectron2 can be imported")
except ImportError:
    pass
results = {}
for name in sorted(os.listdir(sys.argv[1])):
    os.chdir(os.path.join(sys.argv[1], name))
    cfg = get_cfg()
    cfg.merge_from_file("config.yaml")
    predictor = DefaultPredictor(cfg)
    for i, picture in enumerate(numpy.load(sys.argv[2]).values()):
        found = predictor(picture[:, :, ::-1])["instances"]  # it takes BGR
        results[f"{name}/{i}/boxes"] = found.pred_boxes.tensor.numpy()
        results[f"{name}/{i}/scores"] = found.scores.numpy()
        results[f"{name}/{i}/classes"] = found.pred_classes.numpy()
numpy.savez(sys.argv[3], **results)
"""

SCRIPT = """
import os, numpy, torch, torchvision
torch.set_num_threads(1)
results = {}
for name in sorted(os.listdir(sys.argv[1])):
    model = torch.jit.load(os.path.join(sys.argv[1], name, "model.ts"))
    for i, picture in enumerate(numpy.load(sys.argv[2]).values()):
        found = model(torch.as_tensor(picture).permute(2, 0, 1).float())
        results.update({f"{name}/{i}/{key}": value.numpy() for key, value in found.items()})
numpy.savez(sys.argv[3], **results)
"""


def child(code, blocked, *arguments):
    words = [sys.executable, "-c", f"BLOCKED = {blocked}{BLOCK}{code}", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(arguments[-1]))


@torch.no_grad()
def ours(detector, picture):
    """What the model of the run itself says."""
    image = torch.as_tensor(picture).permute(2, 0, 1).float()
    height, width = picture.shape[:2]
    (output,) = detector.model([{"image": image, "height": height, "width": width}])
    found = output["instances"]
    names = ("scores", "cls_uncertainty", "loc_tightness")
    return {
        "boxes": found.pred_boxes.tensor.numpy(),
        "classes": found.pred_classes.numpy(),
        **{name: found.get(name).numpy() for name in names},
    }


@pytest.fixture(scope="module")
def exported(stock_runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for name, run in stock_runs.items():
        metadata = export_detector(load_detector(run), folder / name, torchscript=True)
        assert metadata["needs"] == []
    return folder


@pytest.fixture(scope="module")
def picture_file(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    np.savez(path, *pictures)
    return path


def compare(results, stock_runs, pictures, columns):
    for name, run in stock_runs.items():
        detector = load_detector(run)
        differ = []
        for i, picture in enumerate(pictures):
            expected = ours(detector, picture)
            assert len(expected["scores"]) > 5
            differ.append(expected["scores"][0])
            known = results[f"{name}/{i}/classes"] < len(detector.classes)
            assert known.all() or name == "plain_fpn"  # stock Detectron2 shows the unknown classes
            for column in columns:
                got = results[f"{name}/{i}/{column}"][known]
                assert got.shape == expected[column].shape
                assert got == pytest.approx(expected[column], abs=1e-4), (name, column)
        assert differ[0] != differ[1]


def test_stock_detectron2_finds_the_same(exported, picture_file, stock_runs, pictures, tmp_path):
    results = child(STOCK, ["osal_detectron2"], exported, picture_file, tmp_path / "stock.npz")
    compare(results, stock_runs, pictures, ("boxes", "scores", "classes"))


def test_torchscript_finds_the_same_without_detectron2(
    exported, picture_file, stock_runs, pictures, tmp_path
):
    results = child(
        SCRIPT, ["osal_detectron2", "detectron2"], exported, picture_file, tmp_path / "script.npz"
    )
    compare(results, stock_runs, pictures, ("boxes", "scores", "classes", "cls_uncertainty", "loc_tightness"))


def test_the_checkpoint_and_config_hold_nothing_of_ours(exported, stock_runs):
    import yaml

    heads = {"osal_c4": "Res5ROIHeads", "loss_prediction": "StandardROIHeads", "cascade": "CascadeROIHeads"}
    for name, roi_heads in heads.items():
        keys = torch.load(exported / name / "model.pth", weights_only=True)["model"].keys()
        assert not [
            k for k in keys if k.startswith(("target.", "auxiliary.", "loss_prediction.")) or "branch" in k
        ]
        config = yaml.safe_load((exported / name / "config.yaml").read_text())
        assert "OSAL" not in config and "TORCHVISION" not in config["MODEL"]
        assert config["MODEL"]["ROI_HEADS"]["NAME"] == roi_heads
        assert config["MODEL"]["PROPOSAL_GENERATOR"]["NAME"] == "RPN"
        assert config["MODEL"]["META_ARCHITECTURE"] == "GeneralizedRCNN"


def test_unknown_classes_are_named_and_hidden_from_all_but_stock_detectron2(
    exported, stock_runs, pictures, tmp_path
):
    metadata = json.loads((exported / "plain_fpn" / "metadata.json").read_text())
    assert metadata["classes"] == ["tumor", "lymphocyte", "stromal"]
    assert metadata["unknown_classes"] == ["plasma", "mitosis"]
    assert json.loads((exported / "cascade" / "metadata.json").read_text())["unknown_classes"] == []
    again = load_detector(exported / "plain_fpn")
    assert again.classes == ("tumor", "lymphocyte", "stromal") and again.target.roi_heads.num_classes == 5
    path = tmp_path / "picture.png"
    Image.fromarray(pictures[0]).save(path)
    records = records_of_folder(tmp_path)
    (table,) = detect(again, records, score_thresh=0.0)
    (expected,) = detect(load_detector(stock_runs["plain_fpn"]), records, score_thresh=0.0)
    assert len(table["classes"]) > 5 and table["classes"].max() < 3
    assert table["scores"] == pytest.approx(expected["scores"], abs=1e-4)


def test_metadata_says_what_the_input_is(exported):
    metadata = json.loads((exported / "osal_fpn" / "metadata.json").read_text())
    assert metadata["classes"] == ["tumor", "lymphocyte", "stromal"]
    assert metadata["input"]["format"] == "RGB" and metadata["input"]["resize"] == []
    assert metadata["pixel_mean"] == [103.53, 116.28, 123.675] and len(metadata["pixel_std"]) == 3
    assert {"cls_uncertainty", "loc_tightness"} <= set(metadata["torchscript"]["output"])


def test_a_traced_detector_may_find_nothing(stock_cfg, fpn, make_run, tmp_path):
    cfg = fpn(stock_cfg())
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.9999999
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 77, 99
    metadata = export_detector(load_detector(make_run(cfg)), tmp_path / "out", torchscript=True)
    assert "77" in metadata["input"]["resize"][0] and "99" in metadata["input"]["resize"][0]
    found = torch.jit.load(tmp_path / "out" / "model.ts")(torch.zeros(3, 70, 90))
    assert found["boxes"].shape == (0, 4) and found["cls_uncertainty"].shape == (0,)


def test_a_backbone_of_ours_is_said_to_be_needed(real_run, nuclei, tmp_path, capsys):
    assert osal("export", real_run, "--out", tmp_path / "out", "--torchscript") == 0
    out = capsys.readouterr().out
    assert "notice: the backbone build_torchvision_fpn_backbone is not Detectron2's own" in out
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["needs"] == ["osal_detectron2"] and 90 < metadata["input"]["training_tile"] < 130
    # With the package, the folder is a detector like any other; without it, model.ts is.
    run, again = load_detector(real_run), load_detector(tmp_path / "out")
    assert again.classes == run.classes and again.auxiliary is None
    picture = np.random.default_rng(1).integers(0, 256, size=(96, 128, 3), dtype=np.uint8)
    script = torch.jit.load(tmp_path / "out" / "model.ts")
    expected = ours(run, picture)["boxes"]
    image = torch.as_tensor(picture).permute(2, 0, 1).float()
    with torch.no_grad():
        (plain,) = again.model([{"image": image}])
    assert plain["instances"].pred_boxes.tensor.numpy() == pytest.approx(expected, abs=1e-4)
    assert script(image)["boxes"].numpy() == pytest.approx(expected, abs=1e-4)


def test_an_evidential_classifier_goes_out_as_torchscript_only(stock_cfg, fpn, make_run, tmp_path, capsys):
    cfg = fpn(stock_cfg())
    cfg.OSAL.EVIDENCE.MODE = "edl"
    run, out = make_run(cfg), tmp_path / "out"
    assert osal("export", run, "--out", out) == 1
    assert "OSAL.EVIDENCE.MODE edl" in capsys.readouterr().err and not out.exists()
    assert osal("export", run, "--out", out, "--torchscript") == 0
    assert sorted(p.name for p in out.iterdir()) == ["metadata.json", "model.ts"]
    picture = np.random.default_rng(1).integers(0, 256, size=(64, 96, 3), dtype=np.uint8)
    found = torch.jit.load(out / "model.ts")(torch.as_tensor(picture).permute(2, 0, 1).float())
    assert found["scores"].numpy() == pytest.approx(ours(load_detector(run), picture)["scores"], abs=1e-5)


def test_the_run_is_left_alone(stock_runs, tmp_path, capsys):
    run = stock_runs["osal_fpn"]
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert osal("export", run, "--out", tmp_path / "out") == 0
    assert "stock Detectron2 loads it" in capsys.readouterr().out
    assert osal("export", run, "--out", run / "exported") == 1
    assert "is only read" in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}


def test_a_run_from_a_lazy_config_predicts_and_goes_out_as_torchscript(nuclei, tmp_path, capsys):
    from detectron2.config import LazyConfig, instantiate
    from test_lazy import ROOT, SHUFFLENET, TINY

    from osal_detectron2.engine.lazy import load_config

    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    text = TINY.format(root=ROOT, data=nuclei, shipped="faster_rcnn_fpn", backbone=SHUFFLENET)
    (tmp_path / "tiny.py").write_text(text)
    cfg = load_config(str(tmp_path / "tiny.py"))
    LazyConfig.save(cfg, str(run / "config.yaml"))
    torch.manual_seed(0)
    model = instantiate(cfg.model).eval()
    torch.save({"model": model.state_dict()}, run / "model_final.pth")
    detector = load_detector(run)
    assert detector.classes == ("tumor", "lymphocyte", "stromal") and detector.auxiliary is not None
    picture = np.random.default_rng(1).integers(0, 256, size=(96, 96, 3), dtype=np.uint8)
    image = torch.as_tensor(picture).permute(2, 0, 1).float()
    with torch.no_grad():
        (expected,) = model.target([{"image": image}])
    assert ours(detector, picture)["boxes"] == pytest.approx(expected["instances"].pred_boxes.tensor.numpy())
    assert osal("export", run, "--out", out) == 1
    assert "comes from a LazyConfig" in capsys.readouterr().err
    assert osal("export", run, "--out", out, "--torchscript") == 0
    found = torch.jit.load(out / "model.ts")(image)
    assert found["scores"].numpy() == pytest.approx(ours(detector, picture)["scores"], abs=1e-5)
    # Strategies without use for the auxiliary train the target alone.
    torch.save({"model": model.target.state_dict()}, run / "model_final.pth")
    alone = load_detector(run)
    assert alone.auxiliary is None
    assert ours(alone, picture)["boxes"] == pytest.approx(ours(detector, picture)["boxes"])
