"""OpenAL: distances by hand, few and no nuclei of a kind, and pools with an obvious answer."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import play

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext, get_strategy, openal
from osal_detectron2.strategies.openal import Clusters, LabelledFeatures, scaled, shrunk_precision
from osal_detectron2.strategies.tile_means import localization_uncertainty, mean_entropy

SETTINGS = {"k_out": 9, "pca": 64, "shrink": 0.1, "seed": 0}


# ---- mathematics -------------------------------------------------------------------------------------------
def test_shrunk_mahalanobis_by_hand():
    """S = diag(2, 1/2), tr(S)/d = 1.25, rho = 0.1: diag(1.925, 0.575)."""
    cross = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert shrunk_precision(cross, shrink=0.1) == pytest.approx(np.diag([1 / 1.925, 1 / 0.575]))
    around = Clusters.fit(cross + [5.0, 7.0], count=1, shrink=0.1, seed=0)
    points = np.array([[5.0, 7.0], [6.0, 7.0], [6.0, 9.0]])
    assert around.distance(points) == pytest.approx([0, 1 / 1.925, 1 / 1.925 + 4 / 0.575])


def test_a_single_nucleus_gives_euclidean_distances():
    """Not zero to everything, as a pseudo-inverse of the zero matrix would."""
    alone = Clusters.fit(np.array([[3.0, 4.0]]), count=1, shrink=0.1, seed=0)
    assert alone.distance(np.array([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx([25, 0])


def test_the_nearest_of_the_clusters_counts_and_they_share_a_covariance():
    """Two crosses 100 apart: deviations about their own means, so the covariance is that of one cross."""
    cross = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    two = Clusters.fit(np.concatenate([cross, cross + [100.0, 0.0]]), count=2, shrink=0.1, seed=0)
    points = np.array([[1.0, 0.0], [99.0, 0.0], [100.0, 2.0]])
    assert two.distance(points) == pytest.approx([1 / 1.925, 1 / 1.925, 4 / 0.575])


@pytest.mark.parametrize(
    ("n_unknown", "clusters", "dim"), [(12, 1, 11), (39, 1, 38), (40, 2, 39), (300, 9, 64)]
)
def test_clusters_and_dimensions_follow_the_number_of_unknown_nuclei(n_unknown, clusters, dim):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n_unknown + 50, 80))
    is_known = np.arange(len(features)) < 50
    fitted = LabelledFeatures.fit(features, is_known, **SETTINGS)
    assert fitted.unknown.means.shape == (clusters, dim)
    assert fitted.axes.shape == (80, dim)


def test_the_length_of_a_feature_is_of_no_importance():
    rng = np.random.default_rng(1)
    features, is_known = rng.normal(size=(40, 8)), np.arange(40) < 25
    fitted = LabelledFeatures.fit(features, is_known, **SETTINGS)
    longer = LabelledFeatures.fit(features * rng.uniform(0.5, 9, (40, 1)), is_known, **SETTINGS)
    new = rng.normal(size=(6, 8))
    for one, other in zip(fitted.distances(new), longer.distances(3 * new)):
        assert other == pytest.approx(one)


@pytest.mark.parametrize(("known", "unknown"), [(1, 0), (2, 4), (0, 4), (0, 7), (1, 5), (9, 5)])
def test_few_nuclei_leave_a_side_out_and_never_break(known, unknown):
    rng = np.random.default_rng(2)
    for features in (
        rng.normal(size=(known + unknown, 6)),
        np.ones((known + unknown, 6)),
        np.zeros((known + unknown, 6)),
    ):
        fitted = LabelledFeatures.fit(features, np.arange(known + unknown) < known, **SETTINGS)
        d_in, d_out = fitted.distances(rng.normal(size=(3, 6)))
        assert np.isfinite(d_in).all() and np.isfinite(d_out).all()
        assert (fitted.known is None) == (known == 0) and (fitted.unknown is None) == (unknown < 5)
        assert fitted.distances(np.zeros((0, 6)))[0].shape == (0,)


def test_scaling_by_percentiles():
    values = {"a": np.arange(0.0, 51.0), "b": np.arange(51.0, 101.0), "none": np.zeros(0)}
    result = scaled(values)  # 1st and 99th percentile of 0..100 are 1 and 99
    assert result["a"][[0, 1, 50]] == pytest.approx([0, 0, 0.5])
    assert result["b"][[-2, -1]] == pytest.approx([1, 1]) and result["none"].shape == (0,)
    assert scaled({"a": np.full(4, 7.0)})["a"].tolist() == [0.0] * 4
    assert scaled({"a": np.zeros(0)})["a"].shape == (0,)


def test_entropy_and_localization_vectors_of_the_specification():
    """docs/reproducibility.md 8: entropy of (.5, .25, .25): 1.0397208, LI of tightness 0.8 and 1/7: 0.5285714."""
    rows = {
        "scores": np.array([0.5, 0.05, 0.04]),
        "logits": np.log([[0.5, 0.25, 0.25]] * 2 + [[1.0, 1e-9, 1e-9]]) + 800.0,
        "loc_tightness": np.array([0.8, 1 / 7, 0.0]),
    }
    assert mean_entropy(rows, score_thresh=0.05) == pytest.approx(1.0397208, abs=1e-7)
    assert localization_uncertainty(rows, score_thresh=0.05) == pytest.approx(0.5285714, abs=1e-7)
    assert mean_entropy(rows, score_thresh=0.9) == localization_uncertainty(rows, score_thresh=0.9) == 0.0


# ---- the strategy ------------------------------------------------------------------------------------------
DIRECTIONS = {"known": (1.0, 0.0, 0.0), "unknown": (0.0, 1.0, 0.0), "other": (0.0, 0.0, 1.0)}


def features_of(kind, n, seed):
    return np.array(DIRECTIONS[kind]) + np.random.default_rng(seed).normal(0, 0.05, (n, 3))


class Tiles:
    """Plays the engine: a tile's key is "kind-number", its uncertainty grows with the number."""

    def __init__(self, *, known=30, unknown=30):
        self.labelled = {"known": known, "unknown": unknown}
        self.requests = []

    def row(self, key):
        kind, number = key.split("-")
        n = 0 if kind == "empty" else 6
        return {
            "scores": np.ones(n),
            "logits": np.tile([4.0 - 0.1 * int(number), 0.0], (n, 1)),
            "loc_tightness": np.full(n, 0.5),
            "roi_feature": features_of(kind, n, int(number)) if n else np.zeros((0, 3)),
        }

    def annotated(self, kind):
        n = self.labelled[kind]
        return {"roi_feature": features_of(kind, n, 99), "classes": np.full(n, 0 if kind == "known" else 1)}

    def select(self, pool, *, budget, seed=0, strategy=None):
        context = QueryContext(
            pool=tuple(pool), budget=budget, seed=seed, round_index=0, known_classes=("a",),
            labelled={k: {} for k, n in self.labelled.items() if n is not None},
        )  # fmt: skip

        def reply(request):
            self.requests.append((request.detector, request.source, request.over))
            answer = self.annotated if request.source == "ground_truth" else self.row
            return {k: answer(k) for k in request.over}

        return play(strategy or get_strategy("openal")(), context, reply)


POOL = [f"{kind}-{i}" for kind in ("known", "unknown", "other", "empty") for i in range(5)]


def test_candidates_look_known_and_the_most_uncertain_of_them_are_taken():
    tiles = Tiles()
    selection = tiles.select(POOL, budget=2)
    assert set(selection.candidates) <= {f"known-{i}" for i in range(5)} and len(selection.candidates) == 4
    expected = sorted(selection.candidates, key=lambda k: -int(k[-1]))[:2]
    assert list(selection.selected) == expected
    like = selection.scores["known_like"]
    assert min(like[f"known-{i}"] for i in range(5)) > 0 > max(like[f"unknown-{i}"] for i in range(5))
    assert [(d, s, len(o)) for d, s, o in tiles.requests] == [
        ("target", "ground_truth", 2),
        ("target", "detections", 20),
    ]


def test_without_li_the_entropy_decides_among_the_candidates():
    selection = Tiles().select(POOL, budget=2, strategy=get_strategy("openal")(use_li=False))
    assert (
        selection.scores["score"]
        == selection.scores["entropy"]
        != Tiles().select(POOL, budget=2).scores["score"]
    )


def test_a_tile_without_detections_comes_last():
    selection = Tiles().select(POOL, budget=15, strategy=get_strategy("openal")(cand_factor=1.0))
    assert not any(k.startswith("empty") for k in selection.selected)


def test_with_few_unknown_nuclei_only_the_distance_to_the_known_ones_counts():
    """Then unlike-anything is no better than unknown-like; with enough of them it is."""
    few = Tiles(unknown=4).select(POOL, budget=5)
    assert {k for k in few.candidates if k.startswith("known")} == {f"known-{i}" for i in range(5)}
    assert all(-1 <= few.scores["known_like"][k] <= 0 for k in POOL)


def test_without_known_nuclei_far_from_unknown_is_what_is_left():
    selection = Tiles(known=0).select(POOL, budget=5)
    assert not any(k.startswith(("unknown", "empty")) for k in selection.candidates)


@pytest.mark.parametrize(("known", "unknown"), [(0, 0), (None, None), (0, 3)])
def test_with_nothing_to_compare_the_uncertainty_decides(known, unknown):
    """Also a labelled set of empty tiles, and none at all."""
    tiles = Tiles(known=known, unknown=unknown)
    selection = tiles.select(POOL, budget=3, strategy=get_strategy("openal")(cand_factor=5.0))
    assert {selection.scores["known_like"][k] for k in POOL if "empty" not in k} == {0.0}
    assert all(k.endswith("-4") for k in selection.selected)


def test_the_pool_is_asked_for_in_parts_that_change_nothing(monkeypatch):
    parted, whole = Tiles(), Tiles()
    monkeypatch.setattr(openal, "TILES_PER_PASS", 7)
    first = parted.select(POOL, budget=4)
    monkeypatch.undo()
    assert dataclasses.asdict(first) == dataclasses.asdict(whole.select(POOL, budget=4))
    parts = [over for _, source, over in parted.requests if source == "detections"]
    assert [len(p) for p in parts] == [7, 7, 6] and sorted(k for p in parts for k in p) == sorted(POOL)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(POOL), seed=st.integers(0, 3))
def test_the_order_of_the_pool_is_of_no_importance(order, seed):
    one, other = (
        Tiles(unknown=60).select(POOL, budget=3, seed=seed),
        Tiles(unknown=60).select(order, budget=3, seed=seed),
    )
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"shrink": 0.0}, "SHRINK: 0.0"),
        ({"shrink": 1.5}, "SHRINK"),
        ({"k_out": 0}, "K_OUT 0"),
        ({"pca": 0}, "PCA 0"),
    ],
)
def test_settings_that_cannot_work_are_named(arguments, match):
    with pytest.raises(ConfigError, match=match):
        get_strategy("openal")(**arguments)
