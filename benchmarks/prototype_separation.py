#!/usr/bin/env python
"""How well did stage one know what it counted? From the score files of finished runs and the labels of the data set.

    python benchmarks/prototype_separation.py datasets/consep_tiles/train.json output/consep/osal_nd_seed0 ...

Per query, over the whole pool: the share of detections that the prototypes call known, the true share of known nuclei,
and the rank correlation (Spearman) over tiles of the prototypes' known count, of their share and of the bare number of
detections with the truth. If the count follows the number of detections and the share follows nothing, the prototypes
add nothing to density.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr


def true_counts(json_file: Path, known: list[str]) -> dict[str, tuple[int, int]]:
    """Image key -> (known nuclei, all nuclei)."""
    coco = json.loads(json_file.read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    keys = {i["id"]: i["file_name"] for i in coco["images"]}
    counts = {key: [0, 0] for key in keys.values()}
    for annotation in coco["annotations"]:
        entry = counts[keys[annotation["image_id"]]]
        entry[0] += names[annotation["category_id"]] in known
        entry[1] += 1
    return {key: tuple(entry) for key, entry in counts.items()}


def rows_of(run: Path, json_file: Path):
    """One dict a query."""
    truth = true_counts(json_file, json.loads((run / "run.json").read_text())["known_classes"])
    for path in sorted(run.glob("rounds/*/scores.npz")):
        with np.load(path, allow_pickle=False) as scores:
            if "n_known" not in scores.files:
                continue
            known, total = np.array([truth[str(k)] for k in scores["keys"]], dtype=float).T
            counted, detected = scores["n_known"], scores["n_detected"]
        seen = (detected > 0) & (total > 0)
        yield {
            "run": run.name,
            "round": path.parent.name,
            "share called known": counted.sum() / detected.sum(),
            "true share": known.sum() / total.sum(),
            "count ~ true known": spearmanr(counted, known).statistic,
            "detections ~ true known": spearmanr(detected, known).statistic,
            "share ~ true share": spearmanr(
                counted[seen] / detected[seen], known[seen] / total[seen]
            ).statistic,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", type=Path, help="COCO JSON of the training tiles")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    arguments = parser.parse_args()
    rows = [row for run in arguments.runs for row in rows_of(run, arguments.json)]
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()))


if __name__ == "__main__":
    main()
