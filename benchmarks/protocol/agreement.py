"""Screening and full training side by side: ranks of the arms, paired differences to Random, and seconds saved."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import kendalltau

from osal_detectron2.evaluation.table import markdown_table

from .paired import difference, share_of_seconds

_TITLES = (
    *("setting", "side", "price", "arm", "seeds", "full training", "screening"),
    *("- Random, full", "- Random, screening"),
)


EVERYTHING = "all"  # the arm that has every tile; `benchmarks/screening.py full` writes its cells


def _at_usual_views(cells: Sequence[Mapping]) -> tuple[int, list[Mapping]]:
    """The number of views that most have, and those cells: a learning curve has others."""
    views = Counter(c["views"] for c in cells).most_common(1)[0][0]
    return views, [c for c in cells if c["views"] == views]


def agreement_table(cells: Sequence[Mapping], *, control: str = "random") -> str:
    """Markdown: for each setting, side and price, arms with the seeds that all of them have.

    cells: contents of files of the judge, of which those at the usual number of views are taken.
    """
    if not cells:
        return "nothing judged yet"
    views, cells = _at_usual_views(cells)
    groups: dict[tuple, dict[str, dict[int, Mapping]]] = {}
    for cell in cells:
        key = (cell["setting"], cell["side"], cell["policy"], cell["price_index"])
        groups.setdefault(key, {}).setdefault(cell["arm"], {})[cell["seed"]] = cell
    rows, notes = [], []
    for (setting, side, policy, price), arms in sorted(groups.items()):
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in arms.values())))
        if not seeds or control not in arms:
            continue
        full = {a: np.array([arms[a][s]["mAP50"] for s in seeds]) for a in arms}
        screened = {a: np.array([arms[a][s]["screening_mAP50"] for s in seeds]) for a in arms}
        for arm in sorted(arms, key=lambda a: -full[a].mean()):
            both = [
                "" if arm == control else f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
                for d in (difference(full[arm], full[control]), difference(screened[arm], screened[control]))
            ]
            means = [f"{values[arm].mean():.2f}" for values in (full, screened)]
            rows.append((setting, side, arms[arm][seeds[0]]["price"], arm, len(seeds), *means, *both))
        if len(arms) > 2:
            tau = kendalltau([full[a].mean() for a in arms], [screened[a].mean() for a in arms]).statistic
            notes.append(
                f"{setting}, {side} px, {policy}, price {price}: Kendall's tau {tau:.2f} over {len(arms)} arms"
            )
    return "\n".join([f"{views} labelled-nucleus views each", "", markdown_table(_TITLES, rows), "", *notes])


def saving_table(cells: Sequence[Mapping], *, part: float = 0.9) -> str:
    """Markdown: annotator seconds to `part` of what all tiles give under `drop`, and their share of Random's.

    cells: as above. A curve is straight between the prices that were judged, so they have to lie on both sides.
    """
    _, cells = _at_usual_views(cells) if cells else (0, [])
    rows = []
    for setting in sorted({c["setting"] for c in cells}):
        mine = [c for c in cells if c["setting"] == setting]
        full = [c["mAP50"] for c in mine if c["arm"] == EVERYTHING and c["policy"] == "drop"]
        curves: dict[tuple, list[Mapping]] = {}
        for cell in sorted(mine, key=lambda c: c["price_index"]):
            if cell["arm"] != EVERYTHING:
                key = tuple(cell[k] for k in ("setting", "side", "cost", "policy", "arm", "seed"))
                curves.setdefault(key, []).append(cell)
        if not full:
            continue
        names = ("setting", "side", "cost", "policy", "arm", "seed")
        level = part * float(np.mean(full))
        found = share_of_seconds(({**dict(zip(names, key)), "points": p} for key, p in curves.items()), level)
        for (*_, policy, arm), share in found.items():
            interval = f"{share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]"
            rows.append((setting, f"{level:.1f}", policy, arm, interval, share.n))
    titles = ("setting", "mAP50", "unknown", "arm", "share of Random's seconds", "seeds that reach it")
    return markdown_table(titles, rows) if rows else "no cell of all tiles judged yet: no seconds to compare"
