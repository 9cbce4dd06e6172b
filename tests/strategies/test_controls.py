"""The controls of docs/reproducibility.md 2.8: what each leaves out, and nothing else."""

from dataclasses import replace

import numpy as np
from test_strategies import answer, made_up, pool

from osal_detectron2.strategies import QueryContext, get_strategy


def context(n=30, budget=6):
    return QueryContext(pool=pool(n), budget=budget, seed=0, round_index=1, known_classes=("a", "b", "c"))


def test_random_from_candidates_is_random_restricted_to_the_candidates_of_osal_nd():
    drawn = answer(get_strategy("random_from_candidates")(), context())
    full = answer(get_strategy("osal_nd")(), context())
    assert set(drawn.candidates) == set(full.candidates) and len(drawn.candidates) == 12
    order = answer(get_strategy("random")(), context(budget=30)).selected
    assert drawn.selected == tuple(k for k in order if k in drawn.candidates)[:6]


def test_random_spread_takes_the_slides_in_turn():
    tiles = pool(12)
    groups = {key: "abc"[min(i // 2, 2)] for i, key in enumerate(tiles)}  # two of a, two of b, eight of c
    labelled = {"t-a": {}, "t-b": {}}
    given = replace(context(12, budget=8), groups={**groups, "t-a": "a", "t-b": "c"}, labelled=labelled)
    drawn = answer(get_strategy("random_spread")(), given).selected
    assert [groups[k] for k in drawn][:1] == ["b"]  # of which none is labelled
    assert sorted(groups[k] for k in drawn[1:4]) == ["a", "b", "c"]
    assert [groups[k] for k in drawn[4:]].count("c") == 3 and len(set(drawn)) == 8  # a has one left, b none
    order = answer(get_strategy("random")(), context(12, budget=12)).selected
    for group in "abc":  # within a slide the order is that of Random
        mine = [k for k in drawn if groups[k] == group]
        assert mine == [k for k in order if groups[k] == group][: len(mine)]


def test_random_spread_is_random_where_every_tile_is_a_slide():
    spread, plain = (answer(get_strategy(n)(), context()).selected for n in ("random_spread", "random"))
    assert spread == plain


def test_pcss_by_label_counts_heads_not_prototypes():
    def tables(key):
        # Tile i has i labels "known", and prototypes that say the contrary.
        i = int(key[5:8])
        known = np.arange(30) < i
        rows = {c: np.resize(v, (30, *v.shape[1:])) for c, v in made_up("one", empty=0).items()}
        return {**rows, "classes": (~known).astype(int), "dist_known": known * 1.0, "dist_unknown": 1 - known}

    by_label = answer(get_strategy("pcss_by_label")(), context(), tables).selected
    by_prototype = answer(get_strategy("pcss")(), context(), tables).selected
    assert by_label == pool(30)[:-7:-1]
    assert by_prototype == pool(30)[:6]


def test_pcss_by_target_counts_what_is_rather_known_than_unknown():
    def tables(key):
        # Tile i has i known nuclei, 30 - i unknown ones of the same score, and 99 too weak to count.
        known = np.arange(30) < int(key[5:8])
        scores = np.r_[np.full(30, 0.4), np.full(99, 0.29)]
        unknown = np.r_[np.where(known, 0.39, 0.41), np.zeros(99)]
        return {
            "boxes": np.zeros((129, 4)),
            "classes": np.zeros(129),
            "scores": scores,
            "unknown_score": unknown,
        }

    result = answer(get_strategy("pcss_by_target")(), context(), tables)
    assert result.selected == pool(30)[:-7:-1]
    assert result.reasons[pool(30)[-1]] == "rank 1: 29 of 30 detections look known"


def test_an_auxiliary_that_finds_nothing_is_reported_with_the_remedy(caplog):
    def nothing(key):
        return {c: v[:0] for c, v in made_up("one", empty=0).items()}

    answer(get_strategy("osal_nd")(), context())
    assert "lottery" not in caplog.text
    answer(get_strategy("osal_nd")(), context(), nothing)
    assert "30 of 30" in caplog.text and "OSAL.PROTOTYPE.WEIGHT" in caplog.text
