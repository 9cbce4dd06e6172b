"""Every strategy and every named option runs to the end, and so do the pools that no example shows."""

import importlib
import json

import numpy as np
import pytest
import torch
from miniature import train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from osal_detectron2.core.verify import verify
from osal_detectron2.deploy.load import load_detector
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.modeling.box_branch import BOX_BRANCH_REGISTRY
from osal_detectron2.strategies import available, base, get_strategy

SHORT = ("OSAL.BUDGET.NUM_QUERIES", 1, "OSAL.SCHEDULE.MIN_ITERS", 3)
REFERENCE_STRATEGY = "osal_nd"


def run(config, folder, *options):
    assert train(config, "OUTPUT_DIR", folder, *SHORT, *options) == 0
    assert verify(folder) == []
    return read_curve(folder)


def cost(folder, name):
    """What the strategy says that a query costs, in tiles, for the query of round 0."""
    total = len(json.loads((folder / "run.json").read_text())["pool"])
    sizes = {"L": 4, "N": 4, "U": total - 4}
    return {kind: eval(tiles, {}, sizes) for kind, tiles in get_strategy(name).cost.items()}


@pytest.mark.parametrize("name", [n for n in available() if n != REFERENCE_STRATEGY])
def test_every_strategy_runs_from_the_same_config_at_its_cost(tiny_config, tmp_path, name):
    rows = run(tiny_config, tmp_path, "OSAL.STRATEGY", name)
    assert [row["labelled_tiles"] for row in rows] == [4, 8]
    passes = json.loads((tmp_path / "rounds/000/timing.json").read_text()).get("passes", {})
    assert passes == cost(tmp_path, name)


def test_uncertainty_sees_the_boxes_of_known_nuclei_by_an_auxiliary_of_its_own(tiny_config, tmp_path):
    strategy = ("OSAL.STRATEGY", "uncertainty", "OSAL.UNCERTAINTY.USE_LI", True)
    boxes = ("OSAL.SCORING.ONE_BOX_PER_NUCLEUS", True, "OSAL.SCORING.KNOWN_BOXES_ONLY", True)
    run(tiny_config, tmp_path, *strategy, *boxes)
    passes = json.loads((tmp_path / "rounds/000/timing.json").read_text())["passes"]
    assert passes == cost(tmp_path, "uncertainty") | cost(tmp_path, "pcss")
    found = np.load(tmp_path / "rounds/000/scores.npz")["n_detected"]
    assert found.max() < 20, "the target's 20 boxes a tile overlap"


def test_osal_nd_looks_with_the_target_at_the_candidates_only(reference):
    passes = json.loads((reference / "rounds/000/timing.json").read_text())["passes"]
    assert passes == cost(reference, REFERENCE_STRATEGY)


@pytest.mark.parametrize(
    "options",
    [
        ("OSAL.PROTOTYPE.MODE", "ema", "OSAL.PROTOTYPE.NORM", "scaled", "OSAL.PROTOTYPE.TIED_MARGIN", True),
        ("OSAL.PROTOTYPE.MODE", "mean", "OSAL.PROTOTYPE.REFIT", False, "OSAL.PCSS.COUNT_RULE", "both"),
        (
            "OSAL.EVIDENCE.MODE",
            "branch",
            "OSAL.EVIDENCE.BACKGROUND",
            True,
            "OSAL.SCHEDULE.WEIGHTS_PER_ROUND",
            "continue",
        ),
        ("OSAL.EVIDENCE.MODE", "edl", "OSAL.AUXILIARY.NMS", "per_class", "OSAL.DATA.UNKNOWN_POLICY", "class"),
        ("OSAL.AUXILIARY.BACKBONE", "shared", "OSAL.DATA.UNKNOWN_POLICY", "ignore"),
        ("OSAL.DATA.UNKNOWN_POLICY", "ignore", "OSAL.STRATEGY", "random"),
        ("OSAL.EVAL.UNKNOWN", "ignore", "OSAL.SCHEDULE.LR", "cosine"),
        (
            *(
                "MODEL.ROI_HEADS.BOX_BRANCHES",
                "[PrototypeBranch, EvidentialBranch]",
                "OSAL.EVAL.GALLERY_TILES",
                0,
            ),
            *("OSAL.DATA.UNKNOWN_POLICY", "classes"),
        ),
    ],
    ids=lambda options: "-".join(str(o).rsplit(".", 1)[-1] for o in options),
)
def test_every_named_option_runs(tiny_config, tmp_path, options):
    run(tiny_config, tmp_path, *options)


OF_A_STRANGER = '''
"""A box branch and a strategy that reads what it gives, in a file of a stranger's."""

import torch

from osal_detectron2.modeling.box_branch import BOX_BRANCH_REGISTRY, BoxBranch
from osal_detectron2.strategies.base import Detections, Selection, Strategy, register, require_pool


@BOX_BRANCH_REGISTRY.register()
class NucleusBranch(BoxBranch):
    """Whether a region is a nucleus at all."""

    name = "nucleus"
    field_names = ("is_nucleus",)

    def __init__(self, cfg, feature_dim):
        super().__init__()
        self.score = torch.nn.Linear(feature_dim, 1)

    def losses(self, features, proposals, num_classes):
        nucleus = torch.cat([p.gt_classes for p in proposals]) < num_classes
        score = self.score(features.flatten(1)).squeeze(1)
        return {"loss_nucleus": torch.nn.functional.binary_cross_entropy_with_logits(score, nucleus.float())}

    def fields(self, features, logits):
        return {"is_nucleus": self.score(features.flatten(1)).squeeze(1).sigmoid()}


@register
class Doubtful(Strategy):
    name = "doubtful"
    needs = {"target": ("is_nucleus",)}

    def select(self, context):
        require_pool(context)
        table = yield Detections(over=context.pool, fields=("is_nucleus",))
        score = {k: float(abs(table[k]["is_nucleus"] - 0.5).mean()) if len(table[k]["boxes"]) else 9.0 for k in table}
        selected = tuple(context.rank(context.pool, {k: -v for k, v in score.items()})[: context.size])
        return Selection(selected=selected, scores={"score": score}, reasons=dict.fromkeys(selected, "doubtful"))
'''


def test_a_box_branch_in_a_file_of_one_s_own_trains_and_is_asked(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(BOX_BRANCH_REGISTRY, "_obj_map", dict(BOX_BRANCH_REGISTRY._obj_map))
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    (tmp_path / "of_a_stranger.py").write_text(OF_A_STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("of_a_stranger")
    branches = ("OSAL.STRATEGY", "doubtful", "MODEL.ROI_HEADS.BOX_BRANCHES")
    folder = tmp_path / "run"
    run(tiny_config, folder, *branches, "[EvidentialBranch, NucleusBranch]")
    scores = np.load(folder / "rounds/000/scores.npz")["score"]
    assert np.isfinite(scores).sum() == 15 and (np.diff(np.unique(scores[np.isfinite(scores)])) > 0).any()
    detector = load_detector(folder)
    assert list(detector.target.roi_heads.box_branches) == ["evidence", "nucleus"]
    first = torch.load(folder / "initial_weights.pth", weights_only=True)
    key = "roi_heads.box_branches.nucleus.score.weight"
    assert not torch.equal(first[key], detector.target.state_dict()[key])
    assert train(tiny_config, "OUTPUT_DIR", tmp_path / "without", *branches, "[EvidentialBranch]") == 1
    assert "add NucleusBranch to MODEL.ROI_HEADS.BOX_BRANCHES" in capsys.readouterr().err


def test_a_query_larger_than_the_pool_takes_the_rest_and_ends(tiny_config, tiles, tmp_path):
    total = len(json.loads((tiles / "annotations/random_fold1_train.json").read_text())["images"])
    rows = run(tiny_config, tmp_path, "OSAL.BUDGET.QUERY_TILES", 500, "OSAL.BUDGET.NUM_QUERIES", 3)
    assert [row["labelled_tiles"] for row in rows] == [4, total]
    assert rows[0]["recall"] is not None


def test_no_detection_at_all_is_a_result(tiny_config, tmp_path):
    options = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.9999, "OSAL.AUXILIARY.SCORE_THRESH", 0.9999)
    rows = run(tiny_config, tmp_path, *options)
    assert rows[0]["mAP50"] == 0.0
    assert rows[1]["labelled_tiles"] == 8
    metrics = json.loads((tmp_path / "rounds/000/metrics.json").read_text())
    assert any("no detections" in flag for flag in metrics["flags"])


def test_tiles_without_nuclei_and_without_unknown_nuclei(tiny_config, tiles, tmp_path):
    """Every second tile is emptied and nothing unknown is left: no unknown prototype, empty training tiles."""
    coco = json.loads((tiles / "annotations/random_fold1_train.json").read_text())
    known = {c["id"] for c in coco["categories"] if c["name"] in ("tumor", "lymphocyte", "stromal")}
    emptied = {image["id"] for image in coco["images"][::2]}
    coco["annotations"] = [
        a for a in coco["annotations"] if a["category_id"] in known and a["image_id"] not in emptied
    ]
    path = tmp_path / "sparse.json"
    path.write_text(json.dumps(coco))
    rows = run(tiny_config, tmp_path / "run", "OSAL.DATA.TRAIN_JSON", path)
    assert rows[0]["unknown_queried"] == 0
    states = json.loads((tmp_path / "run/rounds/init/commit.json").read_text())["states"]
    assert "reviewed_empty" in states.values()


def test_a_chosen_initial_set(tiny_config, tiles, tmp_path):
    images = json.loads((tiles / "annotations/random_fold1_train.json").read_text())["images"]
    names = [image["file_name"] for image in images[:5]]
    (tmp_path / "init.txt").write_text("\n".join(names) + "\n")
    run(tiny_config, tmp_path / "run", "OSAL.BUDGET.INIT_FILE", tmp_path / "init.txt")
    assert json.loads((tmp_path / "run/rounds/init/commit.json").read_text())["selected"] == names


def test_the_target_is_the_same_for_every_strategy(tiny_config, tmp_path):
    """Same initial tiles, weights, data order and sampling, with or without an auxiliary beside it or on top of it."""

    def target(name, backbone):
        folder = tmp_path / name / backbone
        options = ("OSAL.STRATEGY", name, "OSAL.BUDGET.NUM_QUERIES", 0, "OSAL.SCHEDULE.MIN_ITERS", 6)
        assert train(tiny_config, "OUTPUT_DIR", folder, *options, "OSAL.AUXILIARY.BACKBONE", backbone) == 0
        weights = torch.load(folder / "model_final.pth", weights_only=True)["model"]
        return {k.removeprefix("target."): v for k, v in weights.items() if not k.startswith("auxiliary.")}

    def same(a, b):
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    alone, shared = target("random", "own"), target("random", "shared")
    assert same(target("osal_nd", "own"), alone)
    assert same(target("osal_nd", "detached"), alone)
    assert same(target("osal_nd", "shared"), shared) and not same(shared, alone)


def test_tensorboard_has_the_curve(reference):
    """Detectron2 writes every 20 iterations, so rounds of four show their last value only."""
    events = EventAccumulator(str(reference)).Reload()
    metrics = json.loads((reference / "rounds/002/metrics.json").read_text())
    assert {"al/AP50-tumor", "al/labelled_tiles", "al/A-OSE", "target/loss_cls"} <= set(
        events.Tags()["scalars"]
    )
    last = events.Scalars("al/mAP50")[-1]
    assert (last.step, last.value) == (11, pytest.approx(metrics["bbox"]["mAP50"]))
