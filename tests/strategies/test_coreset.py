"""Coreset: the k-center vector of the specification, and what greedy covering guarantees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from play import play

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.strategies import QueryContext
from osal_detectron2.strategies.coreset import Coreset, k_center_greedy, nearest_distance

POOL = np.array([[1, 0], [5, 0], [0, 4], [5, 1]], dtype=np.float32)
LABELLED = np.zeros((1, 2), dtype=np.float32)


def plain_k_center(points, centers, *, size):
    """What `k_center_greedy` promises, with every distance computed at every choice."""
    distance, chosen, radii = nearest_distance(points, centers), [], []
    for _ in range(size):
        chosen.append(int(np.argmax(distance.round(5))))
        radii.append(float(distance[chosen[-1]]))
        distance = np.minimum(distance, nearest_distance(points, points[chosen[-1:]]))
        distance[chosen[-1]] = -np.inf
    return chosen, radii


def run(points, centers, *, budget, seed=0, **settings):
    """The strategy on tiles "0", "1", ... of the pool and "L0", "L1", ... that are labelled."""
    features = {str(i): p for i, p in enumerate(points)} | {f"L{i}": c for i, c in enumerate(centers)}
    pool = tuple(str(i) for i in range(len(points)))
    labelled = {f"L{i}": {} for i in range(len(centers))}
    context = QueryContext(pool=pool, budget=budget, seed=seed, round_index=0, labelled=labelled)
    requests = []
    selection = play(
        Coreset(**settings), context, lambda r: {k: {"image_feature": features[k]} for k in r.over}, requests
    )
    (request,) = requests
    assert request.source == "image" and sorted(request.over) == sorted(features)
    return selection, request


def test_vector_of_the_specification():
    """docs/reproducibility.md 8: index 3, then 2; the others stay within distance 1 of a centre."""
    chosen, radii = k_center_greedy(POOL, LABELLED, size=2)
    assert chosen == [3, 2]
    assert radii == pytest.approx([np.sqrt(26), 4.0])
    left = nearest_distance(POOL[:2], np.concatenate([LABELLED, POOL[chosen]]))
    assert left == pytest.approx([1.0, 1.0])
    selection, _ = run(POOL, LABELLED, budget=2)
    assert selection.selected == ("3", "2")
    assert selection.scores["score"] == pytest.approx({"3": np.sqrt(26), "2": 4.0})


def test_every_labelled_tile_is_a_centre():
    centers = np.array([[0, 0], [5, 1]], dtype=np.float32)
    assert run(POOL, centers, budget=1)[0].selected == ("2",)


@settings(deadline=None)
@given(
    points=arrays(np.int8, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(-9, 9)),
    centers=arrays(np.int8, st.tuples(st.integers(0, 9), st.just(3)), elements=st.integers(-9, 9)),
    chunk=st.integers(1, 70),
)
def test_distances_do_not_depend_on_the_chunks(points, centers, chunk):
    expected = [
        min((float(np.sqrt(((p.astype(int) - c) ** 2).sum())) for c in centers), default=np.inf)
        for p in points
    ]
    assert nearest_distance(points, centers, chunk=chunk) == pytest.approx(expected)


grid = arrays(np.float32, st.tuples(st.integers(2, 20), st.just(2)), elements=st.integers(0, 4).map(float))


@settings(deadline=None)
@given(points=grid, centers=grid, budget=st.integers(1, 20), seed=st.integers(0, 3))
def test_a_point_that_coincides_with_a_centre_is_the_last_resort(points, centers, budget, seed):
    selection, _ = run(points, centers, budget=budget, seed=seed)
    covered = {tuple(c) for c in centers}
    for rank, key in enumerate(selection.selected):
        new = [p for p in points if tuple(p) not in covered]
        if new:
            assert tuple(points[int(key)]) not in covered, f"choice {rank}"
        covered.add(tuple(points[int(key)]))
    radii = [selection.scores["score"][k] for k in selection.selected]
    assert radii == sorted(radii, reverse=True)


@st.composite
def hard_for_float32(draw):
    """Integers (ties), duplicates and zero vectors; moved where float32 cancels, or so large that it overflows."""
    shape = draw(st.tuples(st.integers(2, 40), st.integers(1, 12)))
    unit = draw(st.sampled_from([1, 1e-5, 0.1, 3e-6, 1e4, 1e20]))
    points = unit * draw(arrays(np.int8, shape, elements=st.integers(-2, 2))).astype(np.float32)
    if draw(st.booleans()):
        points += np.random.default_rng(draw(st.integers(0, 99))).normal(0, unit, shape).astype(np.float32)
    points[draw(st.integers(0, len(points) - 1)) :: 3] = points[0]
    offset = np.float32(draw(st.sampled_from([0, 100, -3e4, 1e7])))
    centers = draw(st.integers(0, len(points) - 1))
    return np.split(np.asarray(points + offset, draw(st.sampled_from([np.float32, np.float64]))), [centers])


@settings(deadline=None, max_examples=300)
@given(hard_for_float32(), st.integers(1, 40))
def test_products_in_float32_choose_what_exact_distances_choose(data, size):
    centers, points = data
    size = min(size, len(points))
    with np.errstate(over="ignore", invalid="ignore"):
        assert k_center_greedy(points, centers, size=size) == plain_k_center(points, centers, size=size)


def test_few_distances_of_many_are_computed_exactly(monkeypatch):
    computed = []

    def counted(points, centers, **options):
        computed.append(len(points) * len(centers))
        return nearest_distance(points, centers, **options)

    points = np.random.default_rng(0).normal(100, 1, (3000, 64)).astype(np.float32)
    expected = plain_k_center(points[5:], points[:5], size=40)
    monkeypatch.setattr("osal_detectron2.strategies.coreset.nearest_distance", counted)
    assert k_center_greedy(points[5:], points[:5], size=40) == expected
    assert sum(computed) < 2995 * 45 / 20


def test_without_a_labelled_tile_the_seed_draws_the_first_and_the_rest_is_far_from_it():
    first = set()
    for seed in range(12):
        selection, _ = run(POOL, np.zeros((0, 2), np.float32), budget=2, seed=seed)
        a, b = (POOL[int(k)] for k in selection.selected)
        assert np.linalg.norm(a - b) == np.linalg.norm(POOL - a, axis=1).max()
        assert "no tile is labelled" in selection.reasons[selection.selected[0]]
        first.add(selection.selected[0])
    assert len(first) > 1


def test_ties_are_of_distances_equal_up_to_float_noise():
    points = np.array([[1.0, 0], [0, 1.0], [-1, 0]]) * (1 + np.array([[0], [3e-7], [-3e-7]]))
    firsts = {run(points, LABELLED, budget=1, seed=s)[0].selected for s in range(12)}
    assert len(firsts) == 3


def test_the_choice_of_the_feature_travels_with_the_pass_and_a_wrong_one_names_the_key():
    assert run(POOL, LABELLED, budget=1)[1].feature == "res5"
    assert run(POOL, LABELLED, budget=1, feature="fpn")[1].feature == "fpn"
    with pytest.raises(ConfigError, match="OSAL.CORESET.FEATURE: 'p6' is not one of res5, fpn"):
        Coreset(feature="p6")
