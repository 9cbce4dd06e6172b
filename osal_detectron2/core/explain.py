"""Why a tile was queried, or was not: its scores and its place among the pool, round by round."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np

from .errors import LedgerError
from .ledger import Ledger
from .round_files import read_scores
from .rounds import INIT, next_round


def explain(folder: str | Path, key: str) -> str:
    """Lines of text about tile `key`, from scores.npz, selection.json and commit.json of each round.

    key: the name of the tile, or a beginning or a part that only one tile has.
    Raises LedgerError for a tile that the run does not know, and lists the tiles that a part may mean; DataError for a
    damaged scores.npz.
    """
    ledger = Ledger.open(folder)
    key = _find(ledger, key)
    commits = {commit["round"]: commit for commit in ledger.commits()}
    lines, round_index, last = [f"tile {key}"], None, next_round(ledger.last_committed)
    while round_index != last:
        round_index = next_round(round_index)
        lines += _scores(ledger.round_dir(round_index), round_index, key)
        selected = (selection := ledger.selection(round_index) or {}).get("selected", [])
        if key in selected:
            drawn = "drawn first" if round_index == INIT else "queried"
            place = f"  round {round_index}: {drawn}, place {selected.index(key) + 1} of {len(selected)}"
            reason = selection.get("reasons", {}).get(key)
            lines.append(place + (f": {reason}" if reason else ""))
            state = commits[round_index]["states"][key] if round_index in commits else "waits for its labels"
            return "\n".join([*lines, f"  now: {state}"])
    return "\n".join([*lines, "  now: in the pool, not selected so far"])


def _find(ledger: Ledger, text: str) -> str:
    """The tile with this name, or the only one that begins with it, or the only one that has it anywhere."""
    pool = ledger.header["pool"]
    begin, inside = [k for k in pool if k.startswith(text)], [k for k in pool if text in k]
    found = [text] if text in pool else begin or inside
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
        raise LedgerError(
            f"{ledger.folder}: {len(found)} tiles have {text} in their name: {listed}; write more of it"
        )
    near = difflib.get_close_matches(text, pool, n=3, cutoff=0.4)
    hint = f"; do you mean {' or '.join(near)}?" if near else ""
    raise LedgerError(f"{ledger.folder}: no tile {text} in this run{hint}")


def _scores(folder: Path, round_index: str | int, key: str) -> list[str]:
    """One line with every score of the tile and its place, the highest first, among the finite ones."""
    columns = read_scores(folder)
    keys = columns.pop("keys", np.array([])).tolist()
    if key not in keys:
        return []  # selected earlier, so not scored any more
    row = keys.index(key)
    words = []
    for name in sorted(columns.keys() - {"selected"}):
        value, finite = float(columns[name][row]), columns[name][np.isfinite(columns[name])]
        if np.isfinite(value):
            words.append(f"{name} {value:.6g} ({int((finite > value).sum()) + 1} of {finite.size})")
        else:
            words.append(f"{name} not computed")
    return [f"  round {round_index}: " + ", ".join(words)]
