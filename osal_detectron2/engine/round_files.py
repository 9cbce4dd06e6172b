"""What the engine leaves of a round beside its labels: selection, scores, and the times that no hash covers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.ledger import SELECTION_SCHEMA
from ..core.store import read_json, write_bytes, write_json, write_npz
from ..evaluation.gallery import DETECTIONS, DETECTIONS_SCHEMA
from ..scoring.found import SCORE_THRESH
from ..strategies import Selection


def read_if_there(path: Path) -> dict | None:
    """The JSON in `path`, None without such a file."""
    return read_json(path) if path.is_file() else None


def read_timing(folder: Path) -> dict:
    """timing.json in the folder of a round: seconds of each step, and "passes", the forward passes of the query."""
    return read_if_there(folder / "timing.json") or {}


def record(folder: Path, **facts) -> None:
    """Set entries of timing.json, which is not in the hash chain: times differ from run to run."""
    write_json(folder / "timing.json", {**read_timing(folder), **facts})


def add_seconds(folder: Path, step: str, seconds: float) -> None:
    """Add to the seconds of a step; a resumed round has more than one part."""
    record(folder, **{step: round(read_timing(folder).get(step, 0.0) + seconds, 3)})


def write_selection(
    folder: Path, selection: Selection, *, round: int | str, strategy: str, budget: int
) -> None:
    """selection.json: the round is bound to these tiles from here on."""
    write_json(
        folder / "selection.json",
        {
            "schema": SELECTION_SCHEMA,
            "round": round,
            "strategy": strategy,
            "budget": budget,
            "candidates": len(selection.candidates),
            "selected": list(selection.selected),
            "reasons": dict(selection.reasons),
        },
    )


def write_scores(folder: Path, selection: Selection, *, pool: Sequence[str]) -> None:
    """scores.npz: `keys` (T,) of the pool, `selected` (T,) bool, one column (T,) a score, NaN where a tile has none."""
    if not selection.scores:
        return
    columns = {
        name: np.array([column.get(k, np.nan) for k in pool], dtype=np.float64)
        for name, column in selection.scores.items()
    }
    chosen = set(selection.selected)
    write_npz(
        folder / "scores.npz",
        keys=np.array(pool),
        selected=np.array([k in chosen for k in pool]),
        **columns,
    )


def write_detections(folder: Path, found: Mapping[str, dict]) -> None:
    """detections.json of `scoring.found.found_on`, for the gallery; in no hash, since only pictures need it."""
    if found:
        content = {"schema": DETECTIONS_SCHEMA, "score_thresh": SCORE_THRESH, "tiles": dict(found)}
        write_bytes(folder / DETECTIONS, json.dumps(content, sort_keys=True).encode())
