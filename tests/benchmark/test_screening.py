"""The screening of selection rules: prices, precision, the classifier, cells and their resumption."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from protocol.cell import CellName, run_cell
from protocol.detector import Recipe, State, train, training_set
from protocol.information import _weights, information_per_second
from protocol.pool import (
    KNOWN,
    LOCALISER_IMAGES,
    FeatureSpace,
    build_scene,
    split_images,
)
from protocol.precision import evaluate, overlaps
from protocol.price import COSTS, prices
from protocol.regression import fit, logits
from protocol.rules import ARMS, effective

from osal_detectron2.core.budget import fill

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("inflammatory", "malignant_epithelial", "fibroblast", "muscle")
RECIPE = Recipe(penalty=1e-2)


def made_up_image(seed: int, *, side: int = 500) -> dict:
    """An image with nuclei whose features tell their class, and proposals on most of them and on background."""
    rng = np.random.default_rng(seed)
    corner = np.stack(np.meshgrid(np.arange(10, side - 20, 40), np.arange(10, side - 20, 40)), -1).reshape(
        -1, 2
    )
    corner = corner[rng.random(len(corner)) < 0.7].astype(np.float32)
    kind = rng.choice(6, size=len(corner), p=[0.3, 0.2, 0.15, 0.1, 0.15, 0.1])  # 4 and 5: background
    boxes = np.concatenate([corner, corner + 18], axis=1)
    x = rng.normal(size=(len(kind), 8)).astype(np.float32)
    x[np.arange(len(kind)), np.minimum(kind, 4)] += 2.0
    nucleus = kind < 4
    image = {
        "boxes": boxes + rng.integers(-2, 3, size=(len(kind), 1)).astype(np.float32),
        "score": np.where(nucleus, 0.8, 0.2).astype(np.float32),
        "tightness": rng.random(len(kind)).astype(np.float32),
        "imagenet": x.astype(np.float16),
        "localiser": x[:, :2].astype(np.float16),
        "gt_boxes": boxes[nucleus],
        "gt_class": np.array([CLASSES[k] for k in kind[nucleus]], dtype="U32"),
        "gt_imagenet": x[nucleus].astype(np.float16),
        "gt_localiser": x[nucleus, :2].astype(np.float16),
    }
    image["size"] = np.array([side, side])
    for size in (250, 125):
        regions = (side // size) ** 2
        image[f"region_feature_{size}"] = rng.normal(size=(regions, 4)).astype(np.float32)
    return image


@pytest.fixture(scope="module")
def images():
    names = ["train_1", "train_2", "train_3", "train_4", "train_9", "test_1", "test_2"]
    return {name: made_up_image(i) for i, name in enumerate(names)}


@pytest.fixture(scope="module")
def scenes(images):
    pool, test = split_images(list(images), "official", 0)
    space = FeatureSpace.fit([images[n] for n in pool], ("imagenet", "localiser"), dim=6, shrink=0.1)
    build = lambda names, side: build_scene({n: images[n] for n in names}, space, KNOWN["3_4"], side=side)  # noqa: E731
    return build(pool, 125), build(test, None)


def test_prices_and_what_a_region_costs():
    assert COSTS["default"].seconds(10) == 45
    assert COSTS["drafts"].seconds(10, right=6, wrong=2, missed=3) == 15 + 6 + 8 + 9
    assert prices(10_000) == [500, 1000, 1500, 2500, 3800, 5000]


@pytest.mark.parametrize(
    "costs, taken, spent, reached",
    [
        ([40, 40, 40], [0, 1], 80, True),  # the third would land 20 beyond, leaving it is 20 short: left
        ([40, 40, 30], [0, 1, 2], 110, True),  # 10 beyond is nearer than 20 short
        ([40, 60], [0, 1], 100, False),  # nothing is left to ask for
        ([300, 1], [], 0, True),
    ],
)
def test_a_budget_is_filled_to_the_nearer_side_of_the_price(costs, taken, spent, reached):
    assert fill(range(len(costs)), costs.__getitem__, spent=0, price=100) == (taken, spent, reached)


def test_localiser_images_are_in_no_pool_and_no_test(images):
    names = [f"train_{i}" for i in range(1, 28)] + [f"test_{i}" for i in range(1, 15)]
    for split in ("validation", "official", "resampled"):
        pool, test = split_images(names, split, 3)
        assert not set(pool) & set(test) and not (set(pool) | set(test)) & set(LOCALISER_IMAGES)
    assert len(split_images(names, "official", 0)[0]) == 23
    assert split_images(names, "resampled", 1) != split_images(names, "resampled", 2)
    assert not any(n.startswith("test") for part in split_images(names, "validation", 0) for n in part)


def test_precision_is_that_of_the_evaluator_of_the_package(scenes):
    from detectron2.structures import Boxes, Instances

    from osal_detectron2.evaluation.open_set_coco import OpenSetCOCOEvaluator

    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    low = rng.integers(0, 60, size=(70, 2))
    nuclei = np.concatenate([low, low + rng.integers(8, 16, size=(70, 2))], axis=1).astype(float)
    boxes = np.concatenate([nuclei + rng.integers(-2, 3, size=nuclei.shape) for _ in range(3)])
    kind, scores = rng.integers(0, 3, size=70), rng.random((len(boxes), 2))
    annotations = [
        {"bbox": b.tolist(), "bbox_mode": 0, "category_id": int(k), "iscrowd": 0}
        for b, k in zip(nuclei, kind)
    ]
    record = {"image_id": 1, "height": 80, "width": 80, "annotations": annotations}
    evaluator = OpenSetCOCOEvaluator([record], ["a", "b"], max_dets=1000)
    found = Instances((80, 80))
    found.pred_boxes = Boxes(torch.as_tensor(np.repeat(boxes, 2, axis=0)))
    found.scores = torch.as_tensor(scores.reshape(-1))
    found.pred_classes = torch.as_tensor(np.tile([0, 1], len(boxes)))
    evaluator.process([record], [{"instances": found}])
    theirs = evaluator.evaluate()
    ours = evaluate(scores, overlaps(boxes, nuclei), kind, known=2)
    assert ours["mAP50"] == pytest.approx(theirs["bbox"]["mAP50"], abs=1e-9)
    assert ours["aose"] == theirs["open_set"]["A-OSE"] > 0


def test_precision_worked_out_by_hand():
    nuclei = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float)
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [0, 0, 10, 9]], float)
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])  # right, wrong, right, twice: precision 1, then 2/3
    ap = evaluate(scores, overlaps(boxes, nuclei), np.array([0, 0]), known=1)["mAP50"]
    assert ap == pytest.approx(100 * (51 * 1 + 50 * 2 / 3) / 101)


def test_the_classifier_is_at_its_optimum_wherever_it_starts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    y, weights = (
        (x[:, 0] + rng.normal(size=300) > 0).astype(int),
        np.full(300, 1 / 300),
    )  # no sample of class 2
    from_zero = fit(x, y, weights, classes=3, penalty=1e-2)
    elsewhere = fit(x, y, weights, classes=3, penalty=1e-2, start=rng.normal(size=(6, 3)))
    assert np.abs(logits(x, from_zero) - logits(x, elsewhere))[:, :2].max() < 0.05
    assert ((logits(x, from_zero)[:, 1] > logits(x, from_zero)[:, 0]) == y).mean() > 0.75


def test_what_becomes_of_unknown_nuclei(scenes):
    pool, _ = scenes
    regions = list(range(len(pool.keys)))
    sizes = {p: training_set(pool, regions, p) for p in ("drop", "ignore", "class")}
    unknown = int((pool.label[pool.region >= 0] == 3).sum())
    assert len(sizes["drop"][1]) - len(sizes["ignore"][1]) == unknown > 0
    assert len(sizes["class"][1]) - len(sizes["drop"][1]) == int((pool.nucleus_class == 3).sum())
    assert [s[3] for s in sizes.values()] == [4, 4, 5]
    for _, labels, weights, classes in sizes.values():
        assert weights[labels < classes - 1].sum() == pytest.approx(0.25)


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_every_arm_asks_for_unlabelled_regions_and_stops_at_the_price(scenes, arm):
    pool, test = scenes
    name = CellName("3_4", 125, "drafts" if "second" in arm else "default", "drop", arm, 1)
    cell = run_cell(name, pool, test, recipe=RECIPE)
    asked = [key for point in cell["points"] for key in point["queried"]]
    assert len(asked) == len(set(asked)) == cell["points"][-1]["regions"]
    dearest = 15 + 4 * pool.counts.sum(axis=1).max()
    for point in cell["points"]:
        assert abs(point["seconds"] - point["price"]) <= dearest / 2
    assert cell["points"][0] == run_cell(replace(name, arm="random"), pool, test, recipe=RECIPE)["points"][0]
    assert cell["points"] == run_cell(name, pool, test, recipe=RECIPE)["points"]


def test_information_asks_first_for_what_lowers_the_variance_on_the_pool_most(scenes):
    pool, _ = scenes
    w = train(pool, [0, 1, 2], policy="drop", recipe=RECIPE)
    state = State(pool, (0, 1, 2), 1, 1, COSTS["opening"], 1e6, 0.0, w, RECIPE)
    x = np.concatenate([pool.x, np.ones((len(pool.x), 1))], axis=1)
    x *= np.sqrt(_weights(state.posterior))[:, None]
    of_region = np.array([x[rows].T @ x[rows] for rows in pool.proposals_of])
    target, penalty = of_region.sum(axis=0), 1e-2 * pool.counts[:3, :-1].sum() / 0.25
    hessian = penalty * np.eye(7) + of_region[:3].sum(axis=0)
    asked = []
    for _ in range(3):
        variance = [np.trace(np.linalg.inv(hessian + f) @ target) for f in of_region]
        fall = np.trace(np.linalg.inv(hessian) @ target) - np.array(variance)
        fall[[0, 1, 2, *asked]] = -1
        asked.append(int((fall / state.expected_seconds).argmax()))
        hessian += of_region[asked[-1]]
    order = information_per_second(state)
    assert [next(order) for _ in range(3)] == asked


def test_corrections_are_scaled_to_those_of_the_labelled_regions(scenes):
    pool, _ = scenes
    w = train(pool, [0, 1, 2, 3], policy="drop", recipe=RECIPE)
    state = State(pool, (0, 1, 2, 3), 1, 1, COSTS["drafts"], 1e6, 0.0, w, RECIPE)
    truth = np.array([sum(state.drafts(region)[1:]) for region in range(len(pool.keys))])
    assert state.expected_corrections[:4].sum() == pytest.approx(truth[:4].sum(), rel=0.2)
    right, wrong, missed = state.drafts(0)
    assert state.seconds(0) == 15 + right + 4 * wrong + 3 * missed


def test_expected_counts_follow_the_truth_and_prices_follow_them(scenes):
    pool, _ = scenes
    labelled = tuple(range(0, len(pool.keys), 3))
    w = train(pool, labelled, policy="drop", recipe=RECIPE)
    state = State(pool, labelled, 0, 1, COSTS["default"], 1e6, 0.0, w, RECIPE)
    rest = state.unlabelled
    assert np.corrcoef(state.expected[rest].sum(axis=1), pool.counts[rest, :-1].sum(axis=1))[0, 1] > 0.5
    truth = np.array([state.seconds(i) for i in rest])
    assert np.corrcoef(state.expected_seconds[rest], truth)[0, 1] > 0.5
    assert effective(np.array([0, 1, 36]), 0.2) == pytest.approx([0, 1, 4.5])


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("screening_program", ROOT / "benchmarks" / "screening.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cells_that_are_there_are_kept_and_a_missing_one_comes_back_the_same(program, images, tmp_path):
    cache, output = tmp_path / "cache", tmp_path / "cells"
    cache.mkdir()
    for name, image in images.items():
        np.savez(cache / f"{name}.npz", **image)
    arguments = ["run", "--cache", str(cache), "--output", str(output), "--settings", "2_5", "--sides", "125"]
    arguments += ["--arms", "random", "plus_per_second", "--seeds", "0-1", "--dim", "6"]
    assert program.main([*arguments, "--max-minutes", "0"]) == 0 and not output.exists()
    program.main(arguments)
    files = {path.name: json.loads(path.read_text()) for path in output.rglob("*.json")}
    assert len(files) == 4
    (gone := next(output.rglob("*plus*-1.json"))).unlink()
    kept = next(output.rglob("*plus*-0.json"))
    before = kept.stat().st_mtime_ns
    program.main(arguments)
    assert kept.stat().st_mtime_ns == before
    again = json.loads(gone.read_text())
    assert again["points"] == files[gone.name]["points"]

    program.main(["full", *arguments[1:7], "--seeds", "3", "--dim", "6"])
    everything = json.loads((output / "full" / "2_5-250-default-class-all-3.json").read_text())
    assert len(everything["points"][0]["queried"]) == everything["points"][0]["regions"] == 16

    report = tmp_path / "report"
    assert program.main(["table", "--output", str(output), "--out", str(report)]) == 0
    assert (report / "curves.png").stat().st_size > 0 and "plus_per_second" in (
        report / "table.md"
    ).read_text()
    entries = json.loads((report / "summary.json").read_text())["entries"]
    assert [e["arm"] for e in entries] == ["plus_per_second", "random"]
    assert program.main(["table", "--output", str(tmp_path / "none"), "--out", str(report)]) == 1
