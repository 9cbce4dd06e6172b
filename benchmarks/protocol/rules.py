"""The arms: from a state, regions in the order in which they should be labelled."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from .detector import State
from .information import information_per_second
from .order import shuffled
from .package_rules import BoxSet, affordable, select

# Likeness of nuclei of one region, and of one image: fixed beforehand, not tuned.
RHO_REGION, RHO_IMAGE = 0.2, 0.05


def random_known(state: State) -> list[int]:
    """At random among the regions where a known nucleus is expected, then the others."""
    likely = state.expected.sum(axis=1) >= 1.0
    order = shuffled(state, state.unlabelled.tolist())
    return [i for i in order if likely[i]] + [i for i in order if not likely[i]]


def random_spread(state: State) -> list[int]:
    """At random, each from one of the images with fewest labelled regions."""
    image = state.scene.region_image
    taken = np.bincount(image[list(state.labelled)], minlength=image.max() + 1)
    rank = {i: position for position, i in enumerate(shuffled(state, state.unlabelled.tolist()))}
    waiting: dict[int, list[int]] = {}
    for i in sorted(rank, key=rank.get, reverse=True):
        waiting.setdefault(int(image[i]), []).append(i)
    order = []
    while waiting:
        at = min(waiting, key=lambda m: (taken[m], rank[waiting[m][-1]]))
        order.append(waiting[at].pop())
        taken[at] += 1
        if not waiting[at]:
            del waiting[at]
    return order


def package(state: State, *, name: str, **settings) -> list[int]:
    """A strategy of the package, asked for as many regions as the rest of the price buys."""
    row = {key: i for i, key in enumerate(state.scene.keys)}
    return [row[key] for key in select(state, name, budget=affordable(state), **settings).selected]


def by_score(state: State, score: np.ndarray) -> list[int]:
    return sorted(shuffled(state, state.unlabelled.tolist()), key=lambda i: -round(float(score[i]), 6))


def predicted_count(state: State) -> list[int]:
    return by_score(state, state.expected.sum(axis=1))


def count_per_second(state: State) -> list[int]:
    return by_score(state, state.expected.sum(axis=1) / state.expected_seconds)


def uncertainty_per_second(state: State) -> list[int]:
    """Summed entropy of the package's `uncertainty`, per expected second."""
    chosen = select(state, "uncertainty", budget=len(state.unlabelled), agg="sum")
    score = np.zeros(len(state.scene.keys))
    for i, key in enumerate(state.scene.keys):
        score[i] = chosen.scores["score"].get(key, 0.0)
    return by_score(state, score / state.expected_seconds)


def corrections_per_second(state: State) -> list[int]:
    """Nuclei that the drafts are expected to have wrong or to lack, per expected second."""
    return by_score(state, state.expected_corrections / state.expected_seconds)


def plus_per_second(state: State, *, oracle: bool = False) -> Iterator[int]:
    """Greedy by what a region adds to sum_c log(1 + nuclei_c), per expected second."""
    expected, seconds = _forecast(state, oracle)
    sums = 1.0 + state.have
    waiting = np.array(shuffled(state, state.unlabelled.tolist()))
    while len(waiting):
        gain = np.log1p(expected[waiting] / sums).sum(axis=1) / seconds[waiting]
        at = int(gain.round(9).argmax())
        yield int(waiting[at])
        sums = sums + expected[waiting[at]]
        waiting = np.delete(waiting, at)


def looks_per_second(
    state: State, *, oracle: bool = False, rho_region: float = RHO_REGION, rho_image: float = RHO_IMAGE
) -> Iterator[int]:
    """As plus_per_second with effective nuclei: those of a region resemble each other, and those of an image too."""
    expected, seconds = _forecast(state, oracle)
    image = state.scene.region_image
    looks = effective(expected, rho_region)
    sums = np.zeros((image.max() + 1, state.scene.num_known))
    np.add.at(
        sums,
        image[list(state.labelled)],
        effective(state.scene.counts[list(state.labelled), :-1], rho_region),
    )
    waiting = np.array(shuffled(state, state.unlabelled.tolist()))
    while len(waiting):
        before = effective(sums, rho_image)
        added = effective(sums[image[waiting]] + looks[waiting], rho_image) - before[image[waiting]]
        gain = np.log1p(added / (1.0 + before.sum(axis=0))).sum(axis=1) / seconds[waiting]
        at = int(gain.round(9).argmax())
        yield int(waiting[at])
        sums[image[waiting[at]]] += looks[waiting[at]]
        waiting = np.delete(waiting, at)


def effective(n: np.ndarray, rho: float) -> np.ndarray:
    """Independent nuclei that n of a cluster with intraclass correlation rho are worth: n / (1 + (n - 1) rho)."""
    n = np.asarray(n, dtype=np.float64)
    return n / (1.0 + (n - 1.0).clip(min=0.0) * rho)


def _forecast(state: State, oracle: bool) -> tuple[np.ndarray, np.ndarray]:
    if not oracle:
        return state.expected, state.expected_seconds
    return state.scene.counts[:, :-1], np.array([state.seconds(i) for i in range(len(state.scene.keys))])


# The second stage as the paper's words allow: each change alone, then all of them. The same boxes for its rivals.
_CHANGES = {
    "score_03": BoxSet(score=0.3),
    "one_box": BoxSet(one_a_nucleus=True),
    "known_boxes": BoxSet(known_only=True),
    "background": BoxSet(background=True),
}
_BOXES = BoxSet(one_a_nucleus=True, known_only=True, score=0.3)
_ALL = replace(_BOXES, background=True)

Rule = Callable[[State], Iterable[int]]
ARMS: dict[str, Rule] = {
    "random": partial(package, name="random"),
    "random_known": random_known,
    "random_spread": random_spread,
    "uncertainty": partial(package, name="uncertainty"),
    "uncertainty_sum": partial(package, name="uncertainty", agg="sum"),
    "coreset": partial(package, name="coreset"),
    "count_all": partial(package, name="count_all"),
    "pcss": partial(package, name="pcss_by_label"),
    "osal_nd": partial(package, name="osal_nd", count_rule="label"),
    "osal_nd_wo_li_score_05": partial(
        package, name="osal_nd_wo_li", count_rule="label", boxes=BoxSet(score=0.5)
    ),
    "osal_nd_plus": partial(package, name="osal_nd_plus"),
    "predicted_count": predicted_count,
    "count_per_second": count_per_second,
    "uncertainty_per_second": uncertainty_per_second,
    "plus_per_second": plus_per_second,
    "looks_per_second": looks_per_second,
    "corrections_per_second": corrections_per_second,
    "information_per_second": information_per_second,
    "oracle_plus_per_second": partial(plus_per_second, oracle=True),
    "oracle_looks_per_second": partial(looks_per_second, oracle=True),
    **{
        f"osal_nd_{change}": partial(package, name="osal_nd", count_rule="label", boxes=b)
        for change, b in _CHANGES.items()
    },
    "osal_nd_all_changes": partial(package, name="osal_nd", count_rule="label", boxes=_ALL),
    "osal_nd_wo_li_all_changes": partial(package, name="osal_nd_wo_li", count_rule="label", boxes=_ALL),
    **{
        f"{rival}{'' if li else '_wo'}_li{suffix}": partial(package, name=rival, use_li=li, boxes=b)
        for rival in ("uncertainty", "lfosa", "openal")
        for li in (True, False)
        for suffix, b in (("", BoxSet()), ("_same_boxes", _BOXES))
        if (rival, li, suffix) != ("uncertainty", False, "")  # that is the arm "uncertainty"
    },
}
