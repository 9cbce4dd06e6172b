"""What a round leaves beside its labels, each file written and read here alone (ledger.py has the rest).

    metrics.json     evaluation of the detector; in the chain of hashes
    scores.npz       `keys` (T,) of the pool, `selected` (T,) bool, one column (T,) a score, NaN where a tile has none
    timing.json      seconds of each step, and "passes", the forward passes of the query; in no hash: times differ
    selection.json   the query; Ledger.selection reads it, and says whether it still fits the record
    detections.json  what the detector finds on queried tiles, for their pictures; in no hash

`folder` is that of a round. All writing is atomic and may raise OutputError; a damaged file is a DataError that names
it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .errors import DataError, LedgerError
from .ledger import SELECTION_SCHEMA
from .store import read_json, write_bytes, write_json, write_npz

METRICS_SCHEMA = "osal-metrics/1"
DETECTIONS_SCHEMA = "osal-detections/1"


def read_metrics(folder: Path) -> dict | None:
    """metrics.json, None before the evaluation. Raises LedgerError for another schema."""
    return read_record(folder / "metrics.json", METRICS_SCHEMA)


def write_metrics(folder: Path, facts: Mapping) -> dict:
    """Write metrics.json and return what it holds."""
    metrics = {"schema": METRICS_SCHEMA, **facts}
    write_json(folder / "metrics.json", metrics)
    return metrics


def read_timing(folder: Path) -> dict:
    """timing.json; {} without it."""
    path = folder / "timing.json"
    return read_json(path) if path.is_file() else {}


def record_timing(folder: Path, **facts: object) -> None:
    """Set entries of timing.json."""
    write_json(folder / "timing.json", {**read_timing(folder), **facts})


def add_seconds(folder: Path, step: str, seconds: float) -> None:
    """Add to the seconds of a step; a resumed round has more than one part."""
    record_timing(folder, **{step: round(read_timing(folder).get(step, 0.0) + seconds, 3)})


def read_scores(folder: Path) -> dict[str, np.ndarray]:
    """The columns of scores.npz, "keys" and "selected" among them; {} where the strategy scores nothing."""
    path = folder / "scores.npz"
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        columns["keys"]
    except (OSError, KeyError, EOFError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: is not a score file ({error}); restore it") from error
    return columns


def tile_scores(folder: Path) -> dict[str, dict[str, float]]:
    """The scores of scores.npz by tile: image key -> score -> value."""
    columns = {name: column for name, column in read_scores(folder).items() if name != "selected"}
    keys = columns.pop("keys", ())
    return {str(key): {name: float(c[i]) for name, c in columns.items()} for i, key in enumerate(keys)}


def write_scores(
    folder: Path,
    scores: Mapping[str, Mapping[str, float]],
    *,
    pool: Sequence[str],
    selected: Collection[str],
) -> None:
    """Write scores.npz from score -> image key -> value; nothing where there is no score."""
    if not scores:
        return
    columns = {
        name: np.array([column.get(k, np.nan) for k in pool], dtype=np.float64)
        for name, column in scores.items()
    }
    chosen = set(selected)
    write_npz(
        folder / "scores.npz",
        keys=np.array(pool),
        selected=np.array([k in chosen for k in pool]),
        **columns,
    )


def write_selection(
    folder: Path,
    *,
    round_index: int | str,
    strategy: str,
    budget: int,
    selected: Sequence[str],
    candidates: int,
    reasons: Mapping[str, str],
    cost: Mapping | None = None,
) -> None:
    """Write selection.json: the round is bound to these tiles from here on. cost: of a budget that is not of tiles."""
    content = {"schema": SELECTION_SCHEMA, "round": round_index, "strategy": strategy, "budget": budget}
    tiles = {"candidates": candidates, "selected": list(selected), "reasons": dict(reasons)}
    write_json(folder / "selection.json", content | tiles | ({} if cost is None else {"cost": dict(cost)}))


def read_detections(folder: Path) -> dict[str, dict]:
    """{image key: boxes, classes, looks_unknown and the lowest score}; {} without detections.json."""
    content = read_record(folder / "detections.json", DETECTIONS_SCHEMA)
    if content is None:
        return {}
    names = ("boxes", "classes", "scores", "looks_unknown")
    try:
        found = {
            key: {**{name: tile[name] for name in names}, "score_thresh": float(content["score_thresh"])}
            for key, tile in content["tiles"].items()
        }
        if any(len({len(tile[name]) for name in names}) > 1 for tile in found.values()):
            raise ValueError("lists of different lengths")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        path = folder / "detections.json"
        raise DataError(
            f"{path}: is malformed ({error}); restore it, or delete it: only pictures need it"
        ) from error
    return found


def write_detections(folder: Path, found: Mapping[str, Mapping], *, score_thresh: float) -> None:
    """Write detections.json from what `scoring.found.found_on` returns; nothing for no tile."""
    if found:
        content = {"schema": DETECTIONS_SCHEMA, "score_thresh": score_thresh, "tiles": dict(found)}
        write_bytes(folder / "detections.json", json.dumps(content, sort_keys=True).encode())


def read_record(path: Path, schema: str) -> dict | None:
    """The JSON in `path`, None without such a file. Raises LedgerError for another schema."""
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise LedgerError(
            f'{path}: not a file of schema "{schema}"; restore it, or use the version that wrote it'
        )
    return content
