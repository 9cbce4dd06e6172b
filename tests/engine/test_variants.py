"""Every strategy and every named option runs to the end, and so do the pools that no example shows."""

import json

import pytest
import torch
from miniature import train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from osal_detectron2.core.verify import verify
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.strategies import available, get_strategy

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


def test_osal_nd_looks_with_the_target_at_the_candidates_only(reference):
    passes = json.loads((reference / "rounds/000/timing.json").read_text())["passes"]
    assert passes == cost(reference, REFERENCE_STRATEGY)


@pytest.mark.parametrize(
    "options",
    [
        ("OSAL.PROTOTYPE.MODE", "ema", "OSAL.PROTOTYPE.NORM", "scaled"),
        ("OSAL.PROTOTYPE.MODE", "mean", "OSAL.PROTOTYPE.REFIT", False, "OSAL.PCSS.COUNT_RULE", "both"),
        ("OSAL.EVIDENCE.MODE", "branch", "OSAL.SCHEDULE.WEIGHTS_PER_ROUND", "continue"),
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
