#!/usr/bin/env python
"""Do the auxiliary detector's features tell known from unknown nuclei, and do the prototypes?

    python benchmarks/feature_separation.py --config-file configs/CoNSeP/osal_nd.yaml --run output/consep/osal_nd_seed0

With the last weights of a simulated run: features of all annotated nuclei of labelled tiles and of the pool, and for
class means, refitted (with balanced classes, too) and trained prototypes the share of nuclei nearer to the unknown one,
and the AUROC of the difference of distances. Writes nothing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # works from a clone without installation

from osal_detectron2.engine import ActiveLearningTrainer  # noqa: E402
from osal_detectron2.engine.fronts import read_config  # noqa: E402
from osal_detectron2.modeling.detectors import Detectors  # noqa: E402
from osal_detectron2.modeling.prototypes import class_means, prototype_distances  # noqa: E402
from osal_detectron2.scoring.prototypes import refit_prototypes  # noqa: E402
from osal_detectron2.strategies import GroundTruthFeatures  # noqa: E402


def nuclei_of(scorer, keys, num_known: int):
    """Features (n, d) and labels (n,), 0 known and 1 unknown, of all annotated nuclei of some tiles."""
    rows = scorer.run(GroundTruthFeatures(over=tuple(keys), detector="auxiliary")).values()
    features = torch.as_tensor(np.concatenate([r["roi_feature"] for r in rows]))
    return features, torch.as_tensor(np.concatenate([r["classes"] for r in rows]) >= num_known).long()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--run", required=True, help="OUTPUT_DIR of a finished run with a simulated oracle")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs of the config")
    words = parser.parse_args()
    cfg = read_config(words.config_file, ["OUTPUT_DIR", words.run, *words.opts])
    trainer = ActiveLearningTrainer(cfg, resume=True, read_only=True)
    trainer.load_weights(resume=True)
    steps, known = trainer.steps, len(trainer.session.plan.known_classes)
    scorer = trainer.steps.make_scorer(trainer.model, steps.records)
    labelled = steps.ledger.labelled_keys()
    pool = steps.ledger.pool_keys()
    data = {"labelled": nuclei_of(scorer, labelled, known), "pool": nuclei_of(scorer, pool, known)}

    features, labels = data["labelled"]
    branch = Detectors(trainer.model).prototypes
    means, _ = class_means(features, labels)
    fitted, before, after = refit_prototypes(features, labels, margin=branch.margin)
    balanced, _, _ = refit_prototypes(features, labels, margin=branch.margin, balanced=True)
    norm, spread = features.norm(dim=1).mean(), prototype_distances(features, means)[labels == 0, 0].mean()
    print(
        f"{len(labels)} labelled nuclei, {labels.float().mean():.1%} unknown, mean norm of a feature {norm:.2f}"
    )
    print(f"mean distance of known nuclei to their class mean {spread:.2f}")
    print(f"refit: summed loss {before:.0f} -> {after:.0f}")
    print("prototypes | apart | tiles | known called unknown | unknown called unknown | AUROC")
    for name, prototypes in {
        "class means": means,
        "refit": fitted,
        "balanced refit": balanced,
        "trained": branch.prototypes.detach(),
    }.items():
        apart = (prototypes[0] - prototypes[1]).norm()
        for where, (f, y) in data.items():
            distances = prototype_distances(f, prototypes)
            called = (distances[:, 1] <= distances[:, 0]).float()
            separation = roc_auc_score(y, distances[:, 0] - distances[:, 1])
            print(
                f"{name} | {apart:.2f} | {where} | {called[y == 0].mean():.3f} | {called[y == 1].mean():.3f} | "
                f"{separation:.3f}"
            )


if __name__ == "__main__":
    main()
