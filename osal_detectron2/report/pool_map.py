"""A map of the pool: tiles that look alike lie near each other, and each round has its mark."""

from collections.abc import Mapping, Sequence

import numpy as np

from .chart import legend, marker
from .html import Child, Markup, details, note, table, tag
from .pictures import Pictures
from .record import RunRecord

MOST = 1000  # tiles of the pool that are drawn besides those that were asked for
WIDTH, MOST_HEIGHT, LEAST_HEIGHT, MARGIN = 420, 420, 160, 14


def embed(features: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """((n, 2) places of `features` (n, F), the part of the variance that each axis has) by the principal components of
    `base` (m, F), standardised. The sign of an axis is that of its largest weight, so that nothing is left to chance.
    """
    mean, scale = base.mean(axis=0), base.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    _, singular, axes = np.linalg.svd((base - mean) / scale, full_matrices=False)
    axes = axes[:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    places = (features - mean) / scale @ axes.T
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    total = float((singular**2).sum()) or 1.0
    return places, [*(float(s**2) / total for s in singular[:2]), 0.0, 0.0][:2]


def map_of_pool(record: RunRecord, pictures: Pictures) -> Child:
    """The picture, its legend and the places of the tiles that were asked for."""
    rounds = {key: query.name for query in record.asked for key in query.selected}
    pool = record.header["pool"]
    sample = pool[:: -(-len(pool) // MOST)]
    seen = {key: one.features for key in dict.fromkeys([*sample, *rounds]) if (one := pictures.look(key))}
    base = [key for key in sample if key in seen] or list(seen)
    if len(base) < 3:
        return note(
            "There is no map: the images of the tiles were not found. osal run report RUN --image-root FOLDER says "
            "where they are."
        )
    places, shares = embed(np.array(list(seen.values())), np.array([seen[key] for key in base]))
    scaled, height = _scaled(places)
    at = dict(zip(seen, scaled))
    names = [query.name for query in record.asked]
    part = f", of which {len(base):,} are drawn, evenly taken by name," if len(base) < len(pool) else ""
    words = (
        f"{len(pool):,} tiles to choose from{part} and the {sum(key in seen for key in rounds):,} that were asked for, "
        "marked by round. Tiles that look alike lie near each other: the axes are the first two principal components "
        "of 14 coarse image statistics (how much stain of each colour, how it varies, how many edges) and hold "
        f"{100 * sum(shares):.0f} % of their variance. It is not made of the detector's own features, which a run does "
        "not keep."
    )
    return [
        tag(
            "figure",
            _drawn(at, height, rounds, names, words),
            legend(list(zip(names, range(len(names)))), kind="r"),
            tag("figcaption", words),
            cls="chart",
        ),
        details(
            "Places of the tiles that were asked for",
            table(
                "Places on the map, in standard deviations",
                ("tile", "asked for in", "axis 1", "axis 2"),
                [
                    (key, rounds[key], f"{place[0]:.2f}", f"{place[1]:.2f}")
                    for key, place in zip(seen, places.tolist())
                    if key in rounds
                ],
                words=(0, 1),
            ),
        ),
    ]


def _scaled(places: np.ndarray) -> tuple[list[list[float]], float]:
    """(places in the picture, its height); both axes have one scale."""
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([WIDTH, MOST_HEIGHT]) - 2 * MARGIN
    scale = float(np.min(room / np.maximum(high - low, 1e-9)))
    height = max(float((high - low)[1]) * scale + 2 * MARGIN, LEAST_HEIGHT)
    middle = (low + high) / 2
    at = np.array([WIDTH, height]) / 2 + (places - middle) * [scale, -scale]
    return at.round(1).tolist(), round(height)


def _drawn(at: Mapping, height: float, rounds: Mapping[str, str], names: Sequence[str], words: str) -> Markup:
    others = "".join(f"M{x:g} {y:g}h0" for key, (x, y) in at.items() if key not in rounds)
    marks = [
        marker(*at[key], look, cls=f"r{look}", title=f"{key}: {name}")
        for look, name in enumerate(names)
        for key, of in rounds.items()
        if of == name and key in at
    ]
    return tag(
        "svg",
        tag("title", "Map of the pool", id="map-title"),
        tag("desc", words, id="map-desc"),
        tag("path", d=f"M.5 .5H{WIDTH - 0.5}V{height - 0.5:g}H.5z", cls="grid line"),
        tag("path", d=others, cls="pool") if others else None,
        marks,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_labelledby="map-title map-desc",
        cls="plot",
    )
