"""Summary, table and figure of the screening's cells."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from osal_detectron2.core.store import atomic_path, write_json
from osal_detectron2.evaluation.table import markdown_table

from .paired import after_first, compare, random_of_drop, random_of_policy, random_tiles, seconds_to_reach

SUMMARY_SCHEMA = "osal-screening-summary/1"
_BESIDE = {random_of_policy: "difference_in_policy", random_tiles: "difference_to_tiles"}
_TITLES = (
    *("arm", "unknown", "seeds", "mAP50 at the prices", "- Random, mean over prices", "verdict"),
    *("- Random of this policy", "- Random tiles of 250 px", "nuclei", "seconds"),
)
_NUMBERS = ("seconds", "regions", "nuclei", "known", "mAP50", "aose")


def summarize(cells: Sequence[Mapping]) -> list[dict]:
    """One entry for each setting, side, cost, policy and arm: means over seeds, and differences to Random."""
    groups: dict[tuple, list[Mapping]] = {}
    for cell in cells:
        key = tuple(cell[k] for k in ("setting", "side", "cost", "policy", "arm"))
        groups.setdefault(key, []).append(cell)
    compared, entries = compare(cells), []
    beside = {control: compare(cells, control=control) for control in _BESIDE}
    for key, mine in sorted(groups.items()):
        mine = sorted(mine, key=lambda c: c["seed"])
        entry = dict(zip(("setting", "side", "cost", "policy", "arm"), key))
        entry["seeds"] = [c["seed"] for c in mine]
        entry["prices"] = [p["price"] for p in mine[0]["points"]]
        for number in _NUMBERS:
            entry[number] = _means(mine, lambda p, n=number: p[n])
        entry["ap50"] = {
            name: _means(mine, lambda p, n=name: p["ap50"][n]) for name in mine[0]["known_classes"]
        }
        entry["after_first"] = [round(after_first(c), 2) for c in mine]
        if key in compared:
            found = compared[key]
            entry["difference"] = _rounded(found["all"])
            entry["difference_at_price"] = [_rounded(d) for d in found["prices"]]
            entry["verdict"] = found["all"].verdict
        for control, found in beside.items():
            if key in found and control(key) not in (key, random_of_drop(key)):
                entry[_BESIDE[control]] = _rounded(found[key]["all"])
        entries.append(entry)
    return entries


def _means(cells, read) -> list[float]:
    table = np.array([[read(p) for p in c["points"]] for c in cells], dtype=float)
    return [round(v, 2) for v in table.mean(axis=0).tolist()]


def _interval(d: Sequence[float | None] | None) -> str:
    if d is None:
        return ""
    mean, low, high = d
    return f"{mean:+.2f}" if low is None else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _rounded(d) -> list[float | None]:
    return [round(v, 2) if math.isfinite(v) else None for v in (d.mean, d.low, d.high)]


def seconds_saved(entries: Sequence[Mapping], *, price: int = -2) -> dict[tuple, float]:
    """Seconds that an arm needs for what Random has at one price on average, relative to Random's: 0.8 is a fifth less.

    From the mean curves; an arm that never gets there is left out.
    """
    curves = {}
    for e in entries:
        points = [{"seconds": s, "mAP50": m} for s, m in zip(e["seconds"], e["mAP50"])]
        curves[tuple(e[k] for k in ("setting", "side", "cost", "policy", "arm"))] = {"points": points}
    saved = {}
    for key, curve in curves.items():
        control = curves.get((*key[:3], "drop", "random"))
        if control:
            level = control["points"][price]["mAP50"]
            share = seconds_to_reach(curve, level) / control["points"][price]["seconds"]
            if math.isfinite(share):
                saved[key] = round(share, 2)
    return saved


def markdown(entries: Sequence[Mapping], saved: Mapping[tuple, float]) -> str:
    """One table for each setting, side, cost: best first."""
    groups: dict[tuple, list[Mapping]] = {}
    for entry in entries:
        groups.setdefault((entry["setting"], entry["side"], entry["cost"]), []).append(entry)
    lines = []
    for (setting, side, cost), mine in sorted(groups.items()):
        spent = ", ".join(f"{p:,}" for p in mine[0]["prices"])
        lines += [
            f"### {setting.replace('_', '+')}, regions of {side} px, cost `{cost}`",
            "",
            f"Prices: {spent} s.",
            "",
        ]
        rows = []
        for e in sorted(mine, key=lambda e: -e["difference"][0] if "difference" in e else 0.0):
            if "difference" not in e:
                continue
            control = (e["arm"], e["policy"]) == ("random", "drop")
            share = saved.get((e["setting"], e["side"], e["cost"], e["policy"], e["arm"]))
            row = [e["arm"], e["policy"], len(e["seeds"]), " ".join(f"{v:.1f}" for v in e["mAP50"])]
            row += ["", ""] if control else [_interval(e["difference"]), e["verdict"]]
            row += [_interval(e.get(name)) for name in _BESIDE.values()]
            row += [f"{e['nuclei'][-1]:.0f}", "-" if share is None else f"{share:.2f}"]
            rows.append(row)
        lines += [markdown_table(_TITLES, rows), ""]
    lines.append(
        "seconds: what the arm needs for Random's mAP50 at the last price but one, Random's seconds being 1."
    )
    return "\n".join(lines) + "\n"


def draw(path: Path, entries: Sequence[Mapping], arms: Sequence[str], *, cost: str = "default") -> None:
    """mAP50 against annotator minutes on the largest regions, a panel a setting; the band is Random's 95 % interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from scipy.stats import t as student

    mine = [e for e in entries if (e["cost"], e["policy"]) == (cost, "drop")]
    largest = max(e["side"] for e in mine)
    mine = [e for e in mine if e["side"] == largest]
    panels = sorted({(e["setting"], e["side"]) for e in mine}, key=lambda p: (p[0] != "3_4", -p[1]))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4), squeeze=False, layout="constrained"
    )
    for axis, (setting, side) in zip(axes[0], panels):
        for number, arm in enumerate(arms):
            for e in mine:
                if (e["setting"], e["side"], e["arm"]) == (setting, side, arm):
                    minutes = np.array(e["seconds"]) / 60
                    style = dict(color="black", lw=2) if arm == "random" else dict(color=f"C{number}", lw=1.2)
                    dashes = "--" if arm.startswith("oracle") else "-"
                    axis.plot(minutes, e["mAP50"], dashes, marker=".", label=arm, **style)
                    if arm == "random" and len(e["seeds"]) > 1:
                        spread = np.std(e["after_first"], ddof=1) / math.sqrt(len(e["seeds"]))
                        half = student.ppf(0.975, len(e["seeds"]) - 1) * spread
                        axis.fill_between(
                            minutes,
                            np.array(e["mAP50"]) - half,
                            np.array(e["mAP50"]) + half,
                            alpha=0.15,
                            color="black",
                        )
        axis.set(title=f"{setting.replace('_', '+')}, {side} px", xlabel="annotator minutes")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("mAP50 of the known classes")
    axes[0][-1].legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80)
    plt.close(figure)


def write_report(out: Path, cells: Sequence[Mapping], *, about: Mapping, arms: Sequence[str]) -> None:
    """summary.json, table.md and curves.png in the folder `out`."""
    entries = summarize(cells)
    saved = seconds_saved(entries)
    write_json(out / "summary.json", {"schema": SUMMARY_SCHEMA, **about, "entries": entries})
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text(markdown(entries, saved))
    draw(out / "curves.png", entries, arms)
