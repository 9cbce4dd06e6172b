"""Screening and full training side by side: ranks of the arms, and paired differences to Random by both."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import kendalltau

from osal_detectron2.evaluation.table import markdown_table

from .paired import difference

_TITLES = (
    *("setting", "side", "price", "arm", "seeds", "full training", "screening"),
    *("- Random, full", "- Random, screening"),
)


def agreement_table(cells: Sequence[Mapping], *, control: str = "random") -> str:
    """Markdown: for each setting, side and price, arms with the seeds that all of them have.

    cells: contents of files of the judge. Only those at the number of views that most have: a learning curve has more.
    """
    if not cells:
        return "nothing judged yet"
    views = Counter(c["views"] for c in cells).most_common(1)[0][0]
    groups: dict[tuple, dict[str, dict[int, Mapping]]] = {}
    for cell in cells:
        if cell["views"] == views:
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
