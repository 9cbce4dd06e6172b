"""A LazyConfig gives the run that a YAML config gives: the same bytes, resumed or not, and errors as clear."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from lazy_miniature import SHUFFLENET, TINY, VIT, train
from miniature import ROOT, record
from miniature import train as train_yaml

from osal_detectron2.core.verify import verify
from osal_detectron2.deploy.load import load_detector
from osal_detectron2.engine.lazy import flat_config, load_config, osal_settings
from osal_detectron2.modeling.unknown import num_unknown
from osal_detectron2.oracles.status import run_status
from osal_detectron2.scoring.pool import check_needs
from osal_detectron2.strategies import get_strategy

SHIPPED = sorted((ROOT / "configs" / "lazy").glob("*.py"))


@pytest.fixture(scope="module")
def tiny(tiles, tmp_path_factory):
    """tiny(name, backbone) -> a config file: the miniature of the shipped configs/lazy/<name>.py."""

    def write(name, backbone):
        path = tmp_path_factory.mktemp("lazy") / "tiny.py"
        path.write_text(TINY.format(root=ROOT, data=tiles, shipped=name, backbone=backbone))
        return path

    return write


@pytest.fixture(scope="module")
def lazy_config(tiny):
    return tiny("faster_rcnn_fpn", SHUFFLENET)


def choices(folder: Path) -> dict[str, bytes]:
    """`record` without run.json, whose config has other keys, and the commits, whose hashes begin with it."""
    return {k: v for k, v in record(folder).items() if k != "run.json" and not k.endswith("commit.json")}


@pytest.fixture(scope="module")
def lazy_run(lazy_config, reference, tmp_path_factory):
    """The reference run from a LazyConfig, from the same initial weights."""
    folder = tmp_path_factory.mktemp("lazy_run") / "run"
    start = f"train.init_checkpoint={reference / 'initial_weights.pth'}"
    kept = ("train.checkpointer.period=6", "osal.SCHEDULE.KEEP_ROUNDS=[0]")
    assert train(lazy_config, f"train.output_dir={folder}", start, *kept) == 0
    return folder


def test_both_ways_of_configuring_give_the_same_bytes(lazy_run, reference):
    """Every selection, label, score and metric of three rounds, and the trained weights."""
    assert choices(lazy_run) == choices(reference)
    mine, yours = (
        torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (lazy_run, reference)
    )
    assert mine.keys() == yours.keys() and all(torch.equal(mine[k], yours[k]) for k in mine)
    assert verify(lazy_run) == []


def test_a_lazy_run_leaves_the_files_of_a_run(lazy_run, reference):
    def names(run):
        files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
        return {n for n in files if not n.startswith(("events.out", "model_0", "round_0"))}

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


def test_the_config_that_a_run_saves_is_that_of_the_run(lazy_run, tiny_config, capsys):
    """So that the folder alone is enough to go on, by either tool, whatever became of the Python file."""
    before = record(lazy_run)
    for begin in (
        lambda: train(lazy_run / "config.yaml", flags=("--resume",)),
        lambda: train("", f"train.output_dir={lazy_run}", flags=("--resume",)),
        lambda: train_yaml("", "OUTPUT_DIR", lazy_run, "MODEL.DEVICE", "cpu", flags=("--resume",)),
    ):
        assert begin() == 0
        assert record(lazy_run) == before
        assert "mAP50" in capsys.readouterr().out
    assert train_yaml(tiny_config, "OUTPUT_DIR", lazy_run, flags=("--resume",)) == 1
    assert f"osal lazy --resume train.output_dir={lazy_run}" in capsys.readouterr().err
    assert train_yaml("", "OUTPUT_DIR", lazy_run, "SOLVER.BASE_LR", "1", flags=("--resume",)) == 1
    assert "SOLVER.BASE_LR" in (error := capsys.readouterr().err) and "use osal lazy" in error


def test_a_lazy_run_starts_from_a_round_0_of_its_recipe(lazy_run, lazy_config, reference, tmp_path, capsys):
    start = f"train.init_checkpoint={reference / 'initial_weights.pth'}"
    given = f"osal.SCHEDULE.ROUND_0={lazy_run / 'round_0.pth'}"
    assert train(lazy_config, f"train.output_dir={tmp_path / 'run'}", start, given) == 0
    assert record(tmp_path / "run") == record(lazy_run)
    other = f"train.output_dir={tmp_path / 'other'}"
    assert train(lazy_config, other, start, given, "optimizer.lr=0.02") == 1
    assert "optimizer.lr: 0.01 -> 0.02" in capsys.readouterr().err


def test_people_label_for_a_lazy_run_and_are_told_how_to_go_on(lazy_config, tmp_path, capsys):
    folder = tmp_path / "run"
    words = (f"train.output_dir={folder}", "osal.ORACLE.NAME=human")
    assert train(lazy_config, *words) == 0
    assert "awaiting labels for 4 tiles of round init" in capsys.readouterr().out
    resumed = (f"train.output_dir={folder}",)
    assert train(lazy_config, *resumed, flags=("--resume",)) == 0, "the run knows who labels"
    assert "awaiting labels for 4 tiles of round init" in capsys.readouterr().out
    shutil.rmtree(folder / "rounds/init/query")  # as before the batch was asked for
    command = f"osal lazy --resume train.output_dir={folder}"
    assert command in run_status(folder)


def test_one_backbone_for_both_detectors(lazy_run, lazy_config, reference, tmp_path):
    words = (f"train.output_dir={tmp_path}", f"train.init_checkpoint={reference / 'initial_weights.pth'}")
    assert train(lazy_config, *words, "model.auxiliary_backbone=detached", "osal.BUDGET.NUM_QUERIES=0") == 0
    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert not [key for key in weights if key.startswith("auxiliary.backbone")]
    target = "rounds/000/metrics.json"
    assert (tmp_path / target).read_bytes() == (lazy_run / target).read_bytes()


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


# The policy "class": K = 3 known classes and a hidden one.
HIDDEN = (
    "model.unknown_policy=class",
    "model.target.roi_heads.num_classes=4",
    "model.target.roi_heads.box_branches.evidence.num_classes=4",
    "+model.target.roi_heads.box_predictor.num_unknown=1",
)


def test_a_strategy_without_auxiliary_trains_the_target_alone(lazy_config, tmp_path):
    short = ("osal.BUDGET.NUM_QUERIES=1", "osal.SCHEDULE.MIN_ITERS=2", "osal.STRATEGY=random")
    assert train(lazy_config, f"train.output_dir={tmp_path}", *short, *HIDDEN) == 0
    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert weights and not any(k.startswith(("auxiliary.", "target.")) for k in weights)
    detector = load_detector(tmp_path)
    assert len(detector.classes) == 3 and num_unknown(detector.target) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.outputdir=x"], "train.outputdir: the config has no such key; do you mean train.output_dir?"),
        (["modle.num_known=3"], "modle.num_known: the config has no such key"),
        (["osal.STRATEGI=random"], "OSAL.STRATEGI"),
        (["osal.STRATEGY=randm"], "randm"),
        (["osal.PCSS.NMS=per_class"], "model.auxiliary.roi_heads.box_predictor.nms"),
        (["osal.STRATEGY=lfosa"], "needs a model with OSAL.AUXILIARY.CLASSES k_plus_one"),
        (["model.target.roi_heads.num_classes=4"], "num_classes 4"),
        (["+model.target.roi_heads.box_head.nonsense=1"], "nonsense"),
        (["osal.DATA.UNKNOWN_POLICY=class"], "model.unknown_policy"),
        (["model.unknown_policy=class"], "does not fit a target with 0 classes for unknown nuclei"),
        ([HIDDEN[0], HIDDEN[3]], "num_classes 2 besides the 1 of num_unknown"),
        (
            [*HIDDEN[:1], "model.target.roi_heads.num_classes=12", f"{HIDDEN[3][:-1]}9"],
            "9 classes for unknown nuclei, but",
        ),
        (["train.init_checkpoint=nowhere.pth"], "train.init_checkpoint: nowhere.pth"),
        (["osal.STRATEGY"], "give key=value"),
        (["train.init_checkpoint=https://127.0.0.1:9/a.pkl"], "cannot be downloaded"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_no_run(lazy_config, tmp_path, capsys, words, message):
    folder = tmp_path / "run"
    assert train(lazy_config, f"train.output_dir={folder}", *words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0]
    assert not folder.exists(), "what was refused leaves nothing"


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


@pytest.mark.parametrize(("name", "backbone"), [("vitdet", VIT), ("cascade_rcnn_fpn", SHUFFLENET)])
def test_every_shipped_config_runs_in_miniature(tiny, tmp_path, name, backbone):
    words = ["osal.BUDGET.NUM_QUERIES=1", "osal.SCHEDULE.MIN_ITERS=2", f"train.output_dir={tmp_path}"]
    assert train(tiny(name, backbone), *words) == 0
    assert verify(tmp_path) == []
    chosen = json.loads((tmp_path / "rounds/000/selection.json").read_text())
    assert len(chosen["selected"]) == 4 and "nuclei look known" in next(iter(chosen["reasons"].values()))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_config_is_the_same_once_it_was_saved(path, tmp_path):
    """What run.json compares is JSON without addresses of objects, and a saved config says the same."""
    cfg = load_config(str(path), ["train.device=cpu"])
    flat = flat_config(cfg, osal_settings(cfg), two_detectors=True)
    assert " object at 0x" not in json.dumps(flat) and flat["OSAL.STRATEGY"] == "osal_nd"
    assert flat["model.target.roi_heads.num_classes"] == 3
    assert instantiate(cfg.dataloader.train_augmentations)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = load_config(str(tmp_path / "config.yaml"))
    assert flat_config(again, osal_settings(again), two_detectors=True) == flat


def test_the_example_of_the_docs_is_a_whole_config(tmp_path):
    """With detectors out of the zoo that serve OSAL-ND, and nothing of this repository's configs."""
    page = (ROOT / "docs" / "lazy_config.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    (tmp_path / "mine.py").write_text(block)
    cfg = load_config(str(tmp_path / "mine.py"), ["train.device=cpu"])
    model = instantiate(cfg.model)
    check_needs(get_strategy("osal_nd"), model)
    assert list(osal_settings(cfg).OSAL.DATA.KNOWN_CLASSES) == ["tumor", "lymphocyte", "stromal"]
    cfg.optimizer.params.model = model
    rates = {group["lr"] for group in instantiate(cfg.optimizer).param_groups}
    assert rates == {0.02, 0.5}, "the prototypes' is 25 times the others'"
