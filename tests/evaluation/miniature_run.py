"""A finished active-learning run of four tiles and two queries, made with the real ledger."""

import numpy as np

from osal_detectron2.core.labels import TileLabels
from osal_detectron2.core.ledger import INIT, Ledger
from osal_detectron2.core.store import write_json, write_npz

KNOWN = ["tumor", "lymphocyte"]
# Nuclei of each tile. Known: a 2, b 3, c 1, d 1; unknown: a 1, b 0, c 3, d 1; e and f hold none.
TILES = {
    "a.png": ["tumor", "lymphocyte", "debris"],
    "b.png": ["tumor", "tumor", "lymphocyte"],
    "c.png": ["tumor", "debris", "debris", "debris"],
    "d.png": ["lymphocyte", "debris"],
    "e.png": [],
    "f.png": [],
}
REJECTED = "f.png"
QUERIES = {INIT: ["a.png"], 0: ["b.png", "e.png"], 1: ["c.png", "f.png"], 2: []}


def labels_of(key):
    if key == REJECTED:
        return TileLabels("rejected")
    boxes = [[5.0 + 12 * i, 10.0, 10.0, 10.0] for i in range(len(TILES[key]))]
    return TileLabels("labelled" if boxes else "reviewed_empty", boxes, TILES[key])


def metrics_of(round_index, map50):
    return {
        "schema": "osal-metrics/1",
        "round": round_index,
        "bbox": {"mAP50": map50, "AP": map50 / 2, "AP50-tumor": map50},  # lymphocyte: no ground truth
        "open_set": {"A-OSE": 10 - round_index, "unknown_detected_fraction": 0.5, "unknown_total": 20},
        "counts": {"known_nuclei": 30, "unknown_nuclei": 20},
        "flags": [],
    }


def make_run(
    folder,
    *,
    strategy="osal_nd",
    seed=0,
    map50=(20.0, 40.0, 50.0),
    rounds=(INIT, 0, 1, 2),
    scores=None,
    **header,
):
    """Write the run up to and including the last of `rounds`. scores: {column: of every pool tile} of each query."""
    ledger = Ledger.create(
        folder,
        strategy=strategy,
        seed=seed,
        known_classes=header.get("known_classes", KNOWN),
        pool=list(TILES),
        plan=[1, 3, 5],
        config=header.get("config", {"train_nuclei": {"known": 7, "unknown": 5}}),
        dataset_sha256=header.get("dataset_sha256", "0" * 64),
        versions={},
    )
    for round_index in rounds:
        path = ledger.round_dir(round_index)
        selected = QUERIES[round_index]
        if round_index != INIT:
            write_json(path / "metrics.json", metrics_of(round_index, map50[round_index]))
            write_json(path / "timing.json", {"train": 12.5, "evaluate": 1.0})
        if selected and round_index != INIT:
            pool = ledger.pool_keys()
            ramp = np.array([0.25 * i for i in range(len(pool))])
            ramp[-1] = np.nan
            columns = {"uncertainty": ramp} | {
                k: np.full(len(pool), float(v)) for k, v in (scores or {}).items()
            }
            write_npz(path / "scores.npz", keys=np.array(pool), selected=np.isin(pool, selected), **columns)
        write_json(
            path / "selection.json",
            {
                "schema": "osal-selection/1",
                "round": round_index,
                "strategy": strategy if round_index != INIT else "initial",
                "budget": len(selected),
                "candidates": 4,
                "selected": selected,
                "reasons": {key: f"purest of 4 candidates, then most uncertain ({key})" for key in selected},
            },
        )
        ledger.commit(round_index, selected=selected, labels={key: labels_of(key) for key in selected})
    return folder
