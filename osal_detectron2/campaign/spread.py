"""Which tiles to ask for before there is a detector. Numbers in, places out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..core.seeding import derive_seed, generator


def hold_apart(slides: Sequence[str], *, fraction: float, tiles: int, seed: int) -> tuple[set[str], bool]:
    """(slides for the test set, whether there were enough to keep some apart) by a draw.

    slides: that of each tile. At least one slide and `fraction` of them, and more until they hold `tiles` tiles, yet
    never more than half of the slides. A single slide cannot be kept apart.
    """
    count = Counter(slides)
    names = sorted(count)
    if len(names) < 2:
        return set(), False
    order = [names[i] for i in generator("campaign-test", seed).permutation(len(names))]
    chosen: list[str] = []
    for name in order[: len(names) // 2]:
        if len(chosen) >= max(1, round(fraction * len(names))) and sum(count[c] for c in chosen) >= tiles:
            break
        chosen.append(name)
    return set(chosen), True


def draw(keys: Sequence[str], size: int, *, seed: int) -> list[str]:
    """`size` of the tiles at random: every tile has the same chance, so their mean is that of all."""
    ordered = sorted(keys)
    return [ordered[i] for i in generator("campaign-draw", seed).permutation(len(ordered))[:size]]


def spread(
    features: np.ndarray, slides: Sequence[str], size: int, *, seed: int
) -> tuple[list[int], list[str]]:
    """(rows of `size` tiles, the reason of each): over what the tiles look like, then over slides.

    features: (T, F). k-means with `size` centres on standardised features, and tiles near the centres: TypiClust
    (Hacohen et al., ICML 2022) without its learnt features. A cluster is asked by its size, so that ink, folds and
    other rare sights take no more places than they have in the pool; of its nearer half comes the slide that was asked
    least so far, so that no slide fills the batch. The largest clusters come first.
    """
    from sklearn.cluster import KMeans

    total = len(features)
    size = min(size, total)
    scale = features.std(axis=0)
    points = (features - features.mean(axis=0)) / np.where(scale > 0, scale, 1)
    distinct = len(np.unique(points.round(9), axis=0))
    kmeans = KMeans(min(size, distinct), random_state=derive_seed("campaign-spread", seed) % 2**32, n_init=4)
    cluster = kmeans.fit_predict(points)
    distance = ((points - kmeans.cluster_centers_[cluster]) ** 2).sum(axis=1)
    members = sorted(Counter(cluster.tolist()).items(), key=lambda item: (-item[1], item[0]))
    asked: Counter = Counter()
    rows, reasons = [], []
    for (label, number), places in zip(members, shares([n for _, n in members], size)):
        near = sorted(np.flatnonzero(cluster == label).tolist(), key=lambda i: (distance[i], i))
        near = near[: max(places, len(near) // 2)]
        for _ in range(places):
            row = min(near, key=lambda i: asked[slides[i]])  # the first is the nearest
            near.remove(row)
            asked[slides[row]] += 1
            rows.append(row)
            reasons.append(f"stands for {number / places:.0f} tiles that look alike; slide {slides[row]}")
    return rows, reasons


def shares(sizes: Sequence[int], places: int) -> list[int]:
    """How many of `places` each of `sizes` gets, in proportion, by largest remainders; never more than its size."""
    exact = np.array(sizes) * places / sum(sizes)
    given = np.floor(exact).astype(int)
    order = sorted(range(len(sizes)), key=lambda i: (given[i] - exact[i], i))
    for i in order[: places - int(given.sum())]:
        given[i] += 1
    return given.tolist()
