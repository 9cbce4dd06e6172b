#!/usr/bin/env python
"""What does the number follow by which a rule ranks tiles? From the score files of finished runs and the true labels.

    python benchmarks/what_scores_follow.py train.json output/two_cores/cells/2_5/official/pcss/0 ...

A line for each query and each number that its strategy recorded: its rank correlation (Spearman), over the tiles of the
pool, with the true number of known nuclei, of unknown nuclei and of all. With prototypes also the share of detections
that they call known and the true one. If their count follows the known nuclei no better than the bare number of
detections (n_detected) does, the prototypes add nothing to density.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

COLUMNS = ("n_known", "n_detected", "expected_known", "predicted_loss", "ci", "li", "score")


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
    """One list of words for each query and number."""
    truth = true_counts(json_file, json.loads((run / "run.json").read_text())["known_classes"])
    for path in sorted(run.glob("rounds/*/scores.npz")):
        with np.load(path, allow_pickle=False) as scores:
            known, total = np.array([truth[str(k)] for k in scores["keys"]], dtype=float).T
            for column in (name for name in COLUMNS if name in scores.files):
                values, there = scores[column], np.isfinite(scores[column])
                follows = [
                    f"{spearmanr(values[there], nuclei[there]).statistic:.2f}"
                    for nuclei in (known, total - known, total)
                ]
                shares = ["", ""]
                if column == "n_known":
                    share = values.sum() / scores["n_detected"].sum()
                    shares = [f"{share:.2f}", f"{known.sum() / total.sum():.2f}"]
                yield [str(run), path.parent.name, column, *follows, *shares]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", type=Path, help="COCO JSON of the training tiles")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    arguments = parser.parse_args()
    print("run | round | number | ~ known | ~ unknown | ~ all | share called known | true share")
    for run in arguments.runs:
        rows = list(rows_of(run, arguments.json))
        if not rows:
            sys.exit(f"error: {run}: no query of a strategy that ranks tiles by numbers")
        for row in rows:
            print(" | ".join(row))


if __name__ == "__main__":
    main()
