"""`osal data nucls`: turn the NuCLS corrected single-rater release into COCO JSON with folds."""

import argparse

from ..data.nucls import AMBIGUOUS_POLICIES, TABLES

EPILOG = """example:
  osal data nucls --release datasets/nucls

Afterwards nucls_5_2_random_fold1_train and its relatives can be used in DATASETS.TRAIN and DATASETS.TEST."""


def nucls(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--release", required=True, metavar="DIR", help="unpacked release: rgb/, csv/, train_test_splits/")
    add("--out", metavar="DIR", help="where annotations/ goes (default: the release folder itself)")
    add(
        "--classes-from",
        choices=list(TABLES),
        default="main",
        help="column that the seven classes are made from (default: main)",
    )
    add(
        "--ambiguous",
        choices=AMBIGUOUS_POLICIES,
        default="drop",
        help="apoptotic bodies and unlabeled nuclei: drop them (default), count them as the class other, or "
        "ignore them (kept with iscrowd=1, which training skips)",
    )
    add("--seed", type=int, default=0, help="of the random, slide and hospital folds (default: 0)")
    parser.set_defaults(call=_nucls)


def _nucls(args) -> None:
    from ..data.nucls_prepare import prepare

    report = prepare(
        args.release, out=args.out, classes_from=args.classes_from, ambiguous=args.ambiguous, seed=args.seed
    )
    print("\n".join(report.lines()))
