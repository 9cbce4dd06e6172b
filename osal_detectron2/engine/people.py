"""What people get to see of a query, and how a run waits for them: by ending."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.ledger import Ledger
from ..oracles.exchange import export_batch
from ..scoring.pool import PoolScorer
from ..strategies import Pass


class AwaitingLabels(SystemExit):
    """The run stops here, with exit code 0, until people have labelled a batch (docs/human_oracle.md)."""

    def __init__(self, message: str) -> None:
        super().__init__(0)
        self.message = message

    def __reduce__(self):
        return type(self), (self.message,)


def pre_annotations(scorer: PoolScorer, keys: Sequence[str], known_classes: Sequence[str]) -> dict[str, dict]:
    """The target's detections as drafts: key -> boxes [x, y, w, h] in tile pixels, classes, scores. Collective."""
    result = {}
    for key, row in scorer.run(Pass(over=tuple(keys))).items():
        boxes = row["boxes"].astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        result[key] = {
            "boxes": boxes.tolist(),
            "classes": [known_classes[c] for c in row["classes"]],
            "scores": [float(s) for s in row["scores"]],
        }
    return result


def ask_people(
    ledger: Ledger,
    round: int | str,
    *,
    records: Sequence[dict],
    classes: Sequence[str],
    drafts: Mapping[str, dict],
    seconds_per_nucleus: float,
    seconds_per_tile: float,
) -> None:
    """Export the selected tiles, `records`, with the drafts of `pre_annotations`.

    Raises AwaitingLabels unless the labels of all of them have come in.
    """
    folder, keys = ledger.round_dir(round), [r["image_key"] for r in records]
    status = export_batch(
        ledger.folder,
        round=round,
        keys=keys,
        images=dict(zip(keys, records)),
        classes=list(classes),
        predictions=drafts,
        tile_scores=tile_scores(folder / "scores.npz", keys),
        reasons=ledger.selection(round)["reasons"],
        seconds_per_nucleus=seconds_per_nucleus,
        seconds_per_tile=seconds_per_tile,
    )
    if not status.complete:
        raise AwaitingLabels(
            f"awaiting labels for {len(keys)} tiles of round {round}: annotate {folder / 'query' / 'batch.json'}, then "
            f"run `python tools/al.py import {ledger.folder} FILE` and start again with --resume"
        )


def tile_scores(path: Path, keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Per tile, the columns of scores.npz; empty where the strategy scores nothing."""
    if not path.exists():
        return {k: {} for k in keys}
    with np.load(path, allow_pickle=False) as stored:
        rows = {str(k): i for i, k in enumerate(stored["keys"])}
        columns = {n: stored[n] for n in stored.files if n not in ("keys", "selected")}
    return {k: {n: float(column[rows[k]]) for n, column in columns.items()} for k in keys}
