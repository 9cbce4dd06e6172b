#!/usr/bin/env python
"""Is the target's uncertainty high where the detector is wrong, and where the nuclei are that a query should get?

    python benchmarks/uncertainty_quality.py output/consep/osal_nd_seed0 output/consep/osal_nd_seed0/round_0.pth ...

On the test tiles, which no round has seen. First over detections: how many there are at or above a score, the share
that is right (its class, IoU >= 0.5), the mean score, and the AUROC of several uncertainties for being wrong. Then over
tiles, for several UTSS.SCORE_THRESH: the rank correlation (Spearman) of CI, LI, their product and the mean entropy with
the numbers of known and unknown nuclei, with the errors at a score of 0.3 (known nuclei missed, detections too many),
and with the errors per nucleus and detection. Writes nothing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from osal_detectron2.benchmark.detections import Boxes, match_detections  # noqa: E402
from osal_detectron2.benchmark.final_detector import ground_truth, read_test_set  # noqa: E402
from osal_detectron2.deploy.load import load_detector  # noqa: E402
from osal_detectron2.scoring.pool import PoolScorer  # noqa: E402
from osal_detectron2.strategies import Detections  # noqa: E402
from osal_detectron2.strategies.posteriors import entropy, softmax  # noqa: E402
from osal_detectron2.strategies.tile_means import localization_uncertainty, mean_entropy, mean_vacuity  # noqa: E402

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)
ERROR_SCORE = 0.3  # detections that count as errors of a tile


def matching(row: dict, truth: Boxes, *, num_known: int, score: float):
    """(indices of the detections at or above `score`, their Matching)."""
    kept = np.flatnonzero(row["scores"] >= score)
    found = Boxes(row["boxes"][kept], row["classes"][kept], row["scores"][kept])
    return kept, match_detections(truth, found, num_known=num_known)


def print_boxes(table: dict, truths: dict, *, num_known: int) -> None:
    wrong = np.concatenate(
        [matching(table[k], truths[k], num_known=num_known, score=0.0)[1].extra for k in table]
    )
    scores, vacuity, tightness, logits = (
        np.concatenate([row[f] for row in table.values()])
        for f in ("scores", "cls_uncertainty", "loc_tightness", "logits")
    )
    measures = {
        "1 - score": 1 - scores,
        "entropy": entropy(softmax(logits)),
        "vacuity": vacuity,
        "1 - tightness": 1 - tightness,
    }
    print("score | detections a tile | right | mean score | AUROC of " + " | ".join(measures))
    for threshold in THRESHOLDS:
        kept = scores >= threshold
        areas = " | ".join(f"{roc_auc_score(wrong[kept], m[kept]):.3f}" for m in measures.values())
        print(
            f"{threshold} | {kept.sum() / len(table):.1f} | {1 - wrong[kept].mean():.3f} | "
            f"{scores[kept].mean():.3f} | {areas}"
        )


def print_tiles(table: dict, truths: dict, *, num_known: int) -> None:
    known = np.array([(truths[k].classes < num_known).sum() for k in table])
    unknown = np.array([len(truths[k].classes) for k in table]) - known
    errors, share = [], []
    for nuclei, (key, row) in zip(known, table.items()):
        kept, result = matching(row, truths[key], num_known=num_known, score=ERROR_SCORE)
        errors.append(result.extra.sum() + nuclei - result.found.sum())
        share.append(errors[-1] / max(1, len(kept) + result.found.size))
    print("score | measure | detections | known | unknown | errors | errors per nucleus and detection")
    for threshold in THRESHOLDS:
        ci, li, ent = (
            np.array([mean(row, score_thresh=threshold) for row in table.values()])
            for mean in (mean_vacuity, localization_uncertainty, mean_entropy)
        )
        count = np.array([(row["scores"] >= threshold).sum() for row in table.values()])
        for name, measure in {"CI": ci, "LI": li, "CI x LI": ci * li, "mean entropy": ent}.items():
            cells = (f"{spearmanr(measure, t).statistic:.2f}" for t in (count, known, unknown, errors, share))
            print(f"{threshold} | {name} | " + " | ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or checkpoints in them")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for run in arguments.runs:
        detector = load_detector(run, device=arguments.device)
        records, known = read_test_set(detector.cfg)
        scorer = PoolScorer(detector.model, records, mapper=detector.mapper)
        fields = ("cls_uncertainty", "loc_tightness", "logits")
        table = scorer.run(Detections(over=tuple(records), detector="target", fields=fields))
        truths = {key: ground_truth(record) for key, record in records.items()}
        print(f"\n{run}: {len(table)} test tiles")
        print_boxes(table, truths, num_known=len(known))
        print_tiles(table, truths, num_known=len(known))


if __name__ == "__main__":
    main()
