"""Annotators who err: as often as they are told to, and the same again whoever asks, and when."""

import math
from dataclasses import replace

import numpy as np
import pytest
from detectron2.config import get_cfg

from osal_detectron2 import add_osal_config
from osal_detectron2.core.annotation_cost import AnnotationCost
from osal_detectron2.core.annotator import Annotators, Skill, confusion_matrix
from osal_detectron2.core.errors import ConfigError
from osal_detectron2.core.labels import TileLabels
from osal_detectron2.oracles import get_oracle

CLASSES = ["tumor", "lymphocyte", "other"]
PERFECT = Skill(miss=0, false_marks=0, confusion=0, jitter=0, time_spread=0, pace_spread=0)
COST = AnnotationCost(per_tile=10.0, per_nucleus=2.0)


def tiles(number=150, nuclei=16, size=400):
    """{key: labels}: nuclei of 6 to 24 pixels on a grid, so that none overlaps another."""
    rng = np.random.default_rng(0)
    made = {}
    for n in range(number):
        sides = rng.uniform(6, 24, (nuclei, 2))
        places = [(20 + 95 * (i % 4), 20 + 95 * (i // 4)) for i in range(nuclei)]
        boxes = [(x, y, w, h) for (x, y), (w, h) in zip(places, sides)]
        made[f"t{n}.png"] = TileLabels("labelled", boxes, [CLASSES[i % 3] for i in range(nuclei)])
    return made


TILES = tiles()


def annotators(skill, seed=3, cost=COST):
    nuclei = [(*box[2:], name) for t in TILES.values() for box, name in zip(t.boxes, t.classes)]
    return Annotators(skill, classes=CLASSES, nuclei=nuclei, cost=cost, seed=seed)


def answers(skill, annotator=None, **options):
    people = annotators(skill, **options)
    return {k: people.labels(k, t, width=400, height=400, annotator=annotator) for k, t in TILES.items()}


def test_one_who_never_errs_says_the_truth_at_the_price_of_the_cost_model():
    said = answers(PERFECT)
    assert said == {k: replace(t, annotator="annotator-1") for k, t in TILES.items()}
    assert {t.seconds for t in said.values()} == {10.0 + 16 * 2.0}


def test_the_rates_of_errors_are_those_of_the_settings():
    total = 150 * 16
    missed = total - sum(len(t.boxes) for t in answers(replace(PERFECT, miss=0.2, miss_small=1.0)).values())
    assert missed / total == pytest.approx(0.2, abs=0.025)  # 3 standard errors
    extra = sum(len(t.boxes) for t in answers(replace(PERFECT, false_marks=2.0)).values()) - total
    assert extra / 150 == pytest.approx(2.0, abs=0.35)
    wrong = [a != b for k, t in answers(replace(PERFECT, confusion=0.3)).items()
             for a, b in zip(t.classes, TILES[k].classes)]  # fmt: skip
    assert np.mean(wrong) == pytest.approx(0.3, abs=0.03)
    moved = [
        ((a[0] - b[0]) / b[2], (a[0] + a[2] - b[0] - b[2]) / b[2], (a[1] - b[1]) / b[3])
        for k, t in answers(replace(PERFECT, jitter=0.1)).items()
        for a, b in zip(t.boxes, TILES[k].boxes)
    ]
    assert np.std(moved, axis=0) == pytest.approx(0.1, rel=0.06) and abs(np.mean(moved)) < 0.005


def test_small_nuclei_are_overlooked_more_by_the_odds_that_are_given():
    people = annotators(replace(PERFECT, miss=0.2, miss_small=3.0))
    rate = people.miss_rate(np.array([1.0, 0.5, 2.0]) * people.median_side)
    assert rate[0] == pytest.approx(0.2)
    odds = rate / (1 - rate)
    assert odds[1] / odds[0] == pytest.approx(3.0) and odds[0] / odds[2] == pytest.approx(3.0)


def test_times_spread_about_the_price_and_each_annotator_has_a_pace():
    skill = replace(PERFECT, time_spread=0.5, pace_spread=0.3, annotators=4)
    said, people = answers(skill), annotators(skill)
    logs = {f"annotator-{n + 1}": [] for n in range(4)}
    for tile in said.values():
        logs[tile.annotator].append(math.log(tile.seconds / 42.0))
    assert all(len(log) > 20 for log in logs.values()), "the seed deals the tiles out to all"
    assert np.mean([np.var(log) for log in logs.values()]) == pytest.approx(0.25, rel=0.3)
    for n, log in enumerate(logs.values()):
        assert np.mean(log) == pytest.approx(math.log(people.pace(n)) - 0.125, abs=0.3)
    paces = [annotators(skill, seed=s).pace(n) for s in range(100) for n in range(4)]
    assert np.mean(paces) == pytest.approx(1.0, abs=0.05) and np.std(np.log(paces)) == pytest.approx(
        0.3, rel=0.1
    )


def test_an_answer_depends_on_seed_tile_and_annotator_and_on_nothing_else():
    skill = replace(Skill(), miss=0.3, false_marks=1.0, confusion=0.2, annotators=3)
    first = answers(skill)
    people = annotators(skill)
    for key in reversed(list(TILES)):  # the other way round, in an object of its own
        assert people.labels(key, TILES[key], width=400, height=400).as_json() == first[key].as_json()
    assert answers(skill, seed=4) != first
    assert answers(skill, annotator=1)["t0.png"] != answers(skill, annotator=2)["t0.png"]
    # One rate changed: what it is not about stays.
    for key, tile in answers(replace(skill, miss=0.4)).items():
        own = [box for box in tile.boxes if box not in first[key].boxes]
        assert len(own) <= 2, "a false mark that overlaps with nothing any more, at most"


def test_confusions_of_named_classes_and_boxes_within_the_tile():
    skill = replace(PERFECT, confusions=[["tumor", "other", 0.5]], jitter=0.8)
    assert confusion_matrix(skill, CLASSES)[0].tolist() == [0.5, 0, 0.5]
    assert confusion_matrix(skill, CLASSES)[1].tolist() == [0, 1, 0]
    said = answers(skill)
    pairs = {(a, b) for k, t in said.items() for a, b in zip(t.classes, TILES[k].classes)}
    assert pairs == {("tumor", "tumor"), ("other", "tumor"), ("lymphocyte", "lymphocyte"), ("other", "other")}
    edges = np.array([(x, y, 400 - x - w, 400 - y - h) for t in said.values() for x, y, w, h in t.boxes])
    assert edges.min() >= 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"miss": 1.0}, "IMPERFECT.MISS must be a share"),
        ({"jitter": -0.1}, "IMPERFECT.JITTER must be a number from 0 up"),
        ({"annotators": 0}, "IMPERFECT.ANNOTATORS must be"),
        ({"miss_small": 0}, "IMPERFECT.MISS_SMALL must be above 0"),
        ({"confusions": [["tumor", "dust", 0.1]]}, "'dust' is no class; there are tumor"),
        ({"confusions": [["tumor", "other"]]}, "is not .class, other class, share."),
        ({"confusions": [["tumor", "other", 0.7], ["tumor", "lymphocyte", 0.7]]}, "shares of tumor"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        confusion_matrix(Skill(**wrong), CLASSES)


def test_the_oracle_takes_its_settings_from_the_config_and_the_run_s_seed():
    cfg = get_cfg()
    add_osal_config(cfg)
    assert Skill.of_settings(cfg.OSAL.ORACLE.IMPERFECT) == Skill()
    words = (
        "OSAL.ORACLE.IMPERFECT.CONFUSIONS",
        "[['tumor', 'other', 0.1]]",
        "OSAL.ORACLE.IMPERFECT.MISS",
        "0.5",
    )
    cfg.merge_from_list(list(words))
    records = [
        {"image_key": k, "width": 400, "height": 400, "annotations": [
            {"bbox": list(box), "category_name": name} for box, name in zip(t.boxes, t.classes)]}
        for k, t in TILES.items()
    ]  # fmt: skip
    settings = dict(records=records, known_classes=CLASSES[:1], class_names=CLASSES, init_keys=(), seed=3)
    oracle = get_oracle("imperfect")(settings=cfg.OSAL.ORACLE, **settings)
    skill = Skill(miss=0.5, confusions=(["tumor", "other", 0.1],))
    expected = answers(skill, cost=AnnotationCost())
    some = list(TILES)[5:9]
    assert oracle.at_once(some) == {k: expected[k] for k in some}
    assert oracle.at_once(some)["t5.png"].seconds == expected["t5.png"].seconds
