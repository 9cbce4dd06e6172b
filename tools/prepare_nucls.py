#!/usr/bin/env python
"""Turn the NuCLS corrected single-rater release into COCO JSON with folds.

Example:
    python tools/prepare_nucls.py --release datasets/nucls

Afterwards nucls_5_2_random_fold1_train and its relatives can be used in DATASETS.TRAIN and DATASETS.TEST.
"""

import argparse
import sys

from osal_detectron2.core.errors import OSALError
from osal_detectron2.data.nucls import AMBIGUOUS_POLICIES, TABLES
from osal_detectron2.data.nucls_prepare import prepare


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--release", required=True, metavar="DIR", help="unpacked release: rgb/, csv/, train_test_splits/"
    )
    p.add_argument(
        "--out", metavar="DIR", help="where annotations/ goes (default: the release folder itself)"
    )
    p.add_argument(
        "--classes-from",
        choices=list(TABLES),
        default="main",
        help="column that the seven classes are made from (default: main)",
    )
    p.add_argument(
        "--ambiguous",
        choices=AMBIGUOUS_POLICIES,
        default="drop",
        help="apoptotic bodies and unlabeled nuclei: drop them (default), count them as the class other, or "
        "ignore them (kept with iscrowd=1, which training skips)",
    )
    p.add_argument("--seed", type=int, default=0, help="of the random, slide and hospital folds (default: 0)")
    return p


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    try:
        report = prepare(
            args.release,
            out=args.out,
            classes_from=args.classes_from,
            ambiguous=args.ambiguous,
            seed=args.seed,
        )
    except OSALError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print("\n".join(report.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
