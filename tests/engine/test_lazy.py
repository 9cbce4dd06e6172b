"""A LazyConfig gives the run that a YAML config gives: the same bytes, resumed or not, and errors as clear."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from miniature import ROOT, record

from osal_detectron2.core.verify import verify
from osal_detectron2.engine.lazy import load_config

SHIPPED = sorted((ROOT / "configs" / "lazy").glob("*.py"))

# The miniature of miniature.py on top of the config that we ship: each line has its twin in the YAML.
TINY = """
from copy import deepcopy
from detectron2.config import LazyCall as L, LazyConfig
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from osal_detectron2.modeling.backbones import TorchvisionBackbone, build_torchvision_network

_base = LazyConfig.load("{root}/configs/lazy/faster_rcnn_fpn.py")
model, optimizer, train, dataloader = _base.model, _base.optimizer, _base.train, _base.dataloader
lr, test, osal = _base.lr, _base.test, _base.osal

for _detector in (model.target, model.auxiliary):
    _detector.backbone = L(FPN)(
        bottom_up=L(TorchvisionBackbone)(
            network=L(build_torchvision_network)(name="shufflenet_v2_x0_5"), norm="BN"
        ),
        in_features=["res2", "res3", "res4", "res5"],
        out_channels=16,
        top_block=L(LastLevelMaxPool)(),
    )
    _rpn, _heads = _detector.proposal_generator, _detector.roi_heads
    _rpn.head.in_channels = 16
    _rpn.anchor_generator.sizes = [[16], [24], [40], [64], [96]]
    _rpn.pre_nms_topk, _rpn.post_nms_topk = (50, 50), (20, 20)
    _heads.batch_size_per_image = 16
    _heads.box_pooler.output_size = 3
    _heads.box_head.input_shape = ShapeSpec(channels=16, height=3, width=3)
    _heads.box_head.fc_dims = [16]
    _heads.box_predictor.input_shape = ShapeSpec(channels=16)
    _heads.box_predictor.test_score_thresh = 0.0
    _heads.box_predictor.test_topk_per_image = 20
model.target.roi_heads.box_branches.evidence.feature_dim = 16
model.auxiliary.roi_heads.box_branches.prototype.feature_dim = 16
model.auxiliary.roi_heads.box_branches.prototype.warmup_iters = 1

optimizer.lr = 0.01
lr.warmup_iters = 0
test.max_dets = 20
dataloader.batch_size, dataloader.num_workers = 2, 0
train.device, train.checkpointer.period = "cpu", 3
train.clip_gradients = dict(enabled=True)
osal.DATA.TRAIN_JSON = "{data}/annotations/random_fold1_train.json"
osal.DATA.TEST_JSON = "{data}/annotations/random_fold1_test.json"
osal.DATA.TRAIN_IMAGE_ROOT = osal.DATA.TEST_IMAGE_ROOT = "{data}/rgb"
osal.DATA.CACHE_IMAGES = True
osal.BUDGET = dict(INIT_TILES=4, QUERY_TILES=4, NUM_QUERIES=2)
osal.SCHEDULE = dict(EPOCHS=0.0, MIN_ITERS=4)
osal.SCORING = dict(BATCH_SIZE=4)
osal.EVAL = dict(GALLERY_TILES=2)
"""


@pytest.fixture(scope="module")
def lazy_config(tiles, tmp_path_factory):
    path = tmp_path_factory.mktemp("lazy") / "tiny.py"
    path.write_text(TINY.format(root=ROOT, data=tiles))
    return path


def train(config, *overrides, flags=()):
    """tools/lazy_train_al.py in this process; returns its exit code."""
    sys.path.insert(0, str(ROOT / "tools"))
    import lazy_train_al

    try:
        lazy_train_al.run(["--config-file", str(config), *flags, *map(str, overrides)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def decisions(folder: Path) -> dict[str, bytes]:
    """`record` without run.json, whose config has other keys, and the commits, whose hashes begin with it."""
    return {k: v for k, v in record(folder).items() if k != "run.json" and not k.endswith("commit.json")}


@pytest.fixture(scope="module")
def lazy_run(lazy_config, reference, tmp_path_factory):
    """The reference run from a LazyConfig, from the same initial weights."""
    folder = tmp_path_factory.mktemp("lazy_run") / "run"
    start = f"train.init_checkpoint={reference / 'initial_weights.pth'}"
    assert train(lazy_config, f"train.output_dir={folder}", start, "train.checkpointer.period=6") == 0
    return folder


def test_both_ways_of_configuring_give_the_same_bytes(lazy_run, reference):
    """Every selection, label, score and metric of three rounds, and the trained weights."""
    assert decisions(lazy_run) == decisions(reference)
    mine, yours = (
        torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (lazy_run, reference)
    )
    assert mine.keys() == yours.keys() and all(torch.equal(mine[k], yours[k]) for k in mine)
    assert verify(lazy_run) == []


def test_a_lazy_run_leaves_the_files_of_a_run(lazy_run, reference):
    def names(run):
        files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
        return {n for n in files if not n.startswith(("events.out", "model_0"))}

    assert names(lazy_run) == names(reference)


def test_an_interrupted_lazy_run_goes_on_as_if_it_had_not_been(lazy_run, lazy_config, reference, tmp_path):
    """Interrupted in round 1 with a checkpoint from within the round, then resumed."""
    folder = tmp_path / "run"
    shutil.copytree(lazy_run, folder)
    for path in (folder / "rounds/001", folder / "rounds/002"):
        shutil.rmtree(path)
    (folder / "last_checkpoint").write_text("model_0000005.pth")
    words = (f"train.output_dir={folder}", f"train.init_checkpoint={reference / 'initial_weights.pth'}")
    assert train(lazy_config, *words, flags=("--resume",)) == 0
    assert record(folder) == record(lazy_run)


def test_resume_with_another_value_names_the_key(lazy_run, lazy_config, reference, capsys):
    words = (f"train.output_dir={lazy_run}", f"train.init_checkpoint={reference / 'initial_weights.pth'}")
    assert train(lazy_config, *words, "optimizer.lr=0.5", flags=("--resume",)) == 1
    assert "optimizer.lr: 0.01 -> 0.5;" in capsys.readouterr().err
    assert train(lazy_config, *words, "osal.STRATEGY=random", flags=("--resume",)) == 1
    error = capsys.readouterr().err
    assert "OSAL.STRATEGY" in error and "detectors" in error and "model." not in error.split("with:")[1]
    assert train(lazy_config, *words) == 1
    assert "--resume" in capsys.readouterr().err


def test_dry_run_and_eval_only_write_nothing(lazy_run, lazy_config, reference, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(lazy_run, folder)
    shutil.rmtree(folder / "rounds/001")
    shutil.rmtree(folder / "rounds/002")
    files = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert train(lazy_config, f"train.output_dir={folder}", flags=("--dry-run",)) == 0
    assert "query of round 1" in capsys.readouterr().out
    assert train(lazy_config, f"train.output_dir={folder}", "osal.STRATEGY=random", flags=("--dry-run",)) == 0
    captured = capsys.readouterr()
    assert "query of round 1" in captured.out and "Skip loading" not in captured.out + captured.err
    weights = f"train.init_checkpoint={folder / 'model_final.pth'}"
    nowhere = f"train.output_dir={tmp_path / 'none'}"
    assert train(lazy_config, nowhere, weights, flags=("--eval-only",)) == 0
    expected = json.loads((reference / "rounds/002/metrics.json").read_text())
    assert json.loads(capsys.readouterr().out)["bbox"] == expected["bbox"]
    assert not (tmp_path / "none").exists()
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == files


def test_a_strategy_without_auxiliary_trains_the_target_alone(lazy_config, tmp_path):
    short = ("osal.BUDGET.NUM_QUERIES=1", "osal.SCHEDULE.MIN_ITERS=2", "osal.STRATEGY=random")
    assert train(lazy_config, f"train.output_dir={tmp_path}", *short) == 0
    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert weights and not any(k.startswith(("auxiliary.", "target.")) for k in weights)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.outputdir=x"], "train.outputdir: the config has no such key"),
        (["modle.num_known=3"], "modle.num_known: the config has no such key"),
        (["osal.STRATEGI=random"], "OSAL.STRATEGI"),
        (["osal.STRATEGY=randm"], "randm"),
        (["osal.PCSS.NMS=per_class"], "model.auxiliary.roi_heads.box_predictor.nms"),
        (["osal.STRATEGY=lfosa"], "needs a model with OSAL.AUXILIARY.CLASSES k_plus_one"),
        (["model.target.roi_heads.num_classes=4"], "num_classes 4"),
        (["+model.target.roi_heads.box_head.nonsense=1"], "nonsense"),
        (["train.init_checkpoint=nowhere.pth"], "train.init_checkpoint: nowhere.pth"),
        (["osal.STRATEGY"], "give key=value"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_no_run(lazy_config, tmp_path, capsys, words, message):
    folder = tmp_path / "run"
    assert train(lazy_config, f"train.output_dir={folder}", *words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0]
    assert not (folder / "run.json").exists()


def test_a_config_file_that_cannot_be_used_is_named(tmp_path, capsys):
    empty, broken = tmp_path / "empty.py", tmp_path / "broken.py"
    empty.write_text("train = dict(output_dir='x')")
    broken.write_text("model = nothing")
    unused = tmp_path / "unused.py"
    unused.write_text("model = dict()\noptimizer = dict()\ntrain = dict(max_iter=3)")
    for path, message in (
        (empty, "has no `model`"),
        (broken, "NameError"),
        (unused, "train.max_iter: not used here"),
        (tmp_path / "missing.py", "no such file"),
    ):
        assert train(path) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_config_builds_its_optimizer_and_augmentations(path):
    """The models are large: built where `make test` has the time (test_lazy_models)."""
    cfg = load_config(str(path), ["train.device=cpu"])
    cfg.optimizer.params.model = torch.nn.Linear(2, 2)
    assert instantiate(cfg.optimizer).param_groups
    assert len(instantiate(cfg.dataloader.train_augmentations)) >= 2
