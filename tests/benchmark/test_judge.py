"""Frozen labelled sets as trainings of equal views, and how the judge is compared with the screening."""

import re

import pytest
from protocol import frozen
from protocol.agreement import EVERYTHING, agreement_table, saving_table

from osal_detectron2.core.errors import DataError


def test_frozen_sets_become_data_and_equal_views():
    cell = {
        "points": [
            {"queried": ["train_1_x000250_y000000_s250"]},
            {"queried": ["train_1_x000000_y000000_s250"]},
        ]
    }
    data = {
        "images": [
            {"id": i, "file_name": f"train_1_x{x:06d}_y000000.png"} for i, x in ((1, 0), (2, 250), (3, 500))
        ],
        "annotations": [{"image_id": i, "category_id": c} for i, c in ((1, 1), (2, 1), (2, 2), (3, 1))],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    first = frozen.subset(data, frozen.labelled_regions(cell, 0))
    assert [i["id"] for i in first["images"]] == [2] and frozen.known_nuclei(first, ["a"]) == 1
    assert len(frozen.subset(data, frozen.labelled_regions(cell, 1))["images"]) == 2
    tiles = [
        {**image, "group": "train_1.png" if image["id"] < 3 else "train_2.png"} for image in data["images"]
    ]
    agnostic = frozen.class_agnostic({**data, "images": tiles}, ["train_1"])
    assert [a["category_id"] for a in agnostic["annotations"]] == [1, 1, 1] and len(
        agnostic["categories"]
    ) == 1
    with pytest.raises(DataError, match="no tile"):
        frozen.subset(data, ["train_9_x000000_y000000_s250"])
    # 10 tiles with 200 nuclei, 4 a step: 80 views a step. As many nuclei on 20 tiles take twice the steps.
    assert frozen.iterations(views=8000, tiles=10, nuclei=200, batch=4) == 100
    assert frozen.iterations(views=8000, tiles=20, nuclei=200, batch=4) == 200
    options = frozen.schedule_options(125, batch=4, roi=128, rpn=256)
    assert options[1::2] == ["16", "32", "64"]
    assert frozen.views_that_converge({10: 20.0, 20: 30.0, 40: 30.2, 80: 33.0}, gain=0.5) == 20
    assert frozen.views_that_converge({10: 20.0, 20: 30.0}, gain=0.5) is None


def test_judge_and_screening_are_compared_on_common_seeds():
    def judged(arm, seed, full, screened, views=100):
        where = dict(
            setting="3_4", side=250, policy="drop", price_index=3, price=9000, arm=arm, seed=seed, views=views
        )
        return where | {"mAP50": full, "screening_mAP50": screened}

    cells = [
        judged(a, s, m + s, n)
        for a, m, n in (("random", 30, 20), ("a", 33, 21), ("b", 31, 25))
        for s in (0, 1)
    ]
    text = agreement_table([*cells, judged("a", 2, 99, 99), judged("random", 0, 1, 1, views=5)])
    assert "| 3_4 | 250 | 9000 | a | 2 | 33.50 | 21.00 | +3.00 [+3.00, +3.00] |" in re.sub(" +", " ", text)
    assert "Kendall's tau 0.33 over 3 arms" in text


def test_seconds_to_nine_tenths_of_all_tiles_are_compared_with_randoms():
    def judged(policy, arm, seed, price, seconds, full):
        where = dict(setting="3_4", side=250, cost="default", policy=policy, price_index=price, views=100)
        return where | dict(arm=arm, seed=seed, seconds=seconds, mAP50=full)

    cells = [judged("drop", EVERYTHING, s, 0, 9000, 50.0 + s) for s in (-1, 1)]  # 45 is the level
    for seed in (0, 1):
        cells += [judged("drop", "random", seed, i, 1000 * (i + 1), 40 + 5 * i) for i in (1, 0)]
        cells += [judged("class", "random", seed, i, 1000 * (i + 1), 41 + 8 * i) for i in (0, 1)]
    text = re.sub(" +", " ", saving_table(cells))
    assert "| 3_4 | 45.0 | drop | random | 1.00 [1.00, 1.00] | 2 |" in text
    assert "| 3_4 | 45.0 | class | random | 0.75 [0.75, 0.75] | 2 |" in text
    assert "no cell of all tiles" in saving_table(cells[2:])
