"""Five folds of NuCLS: at random by tile as in the paper, grouped by slide or hospital, or the release's own.

The paper splits tiles at random, so tiles of one slide lie in both training and test set and the results are
optimistic. Grouping keeps them together; it is the sound choice for a claim about new patients.
"""

import csv
import random
from collections import Counter
from pathlib import Path

from ..core.errors import DataError

GROUPINGS = {
    "random": lambda tile: tile.file_name,
    "slide": lambda tile: tile.slide,
    "hospital": lambda tile: tile.hospital,
}
SCHEMES = (*GROUPINGS, "official")
FOLDS = (1, 2, 3, 4, 5)


def assign_folds(groups, n_folds=5, seed=0):
    """Fold of each item, 0 to n_folds - 1; items of one group share a fold.

    Groups are shuffled, then placed largest first into the fold that has the fewest items so far, so folds
    are as even as the groups allow. One item a group makes this a plain random split into equal parts. The
    answer depends on the set of groups and the seed, not on the order of the items.

    Args:
        groups: one string an item.

    Raises:
        ValueError: fewer groups than folds, which would leave a fold empty.
    """
    sizes = Counter(groups)
    if len(sizes) < n_folds:
        raise ValueError(f"{len(sizes)} groups cannot fill {n_folds} folds")
    names = sorted(sizes)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -sizes[name])
    filled, fold_of = [0] * n_folds, {}
    for name in names:
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += sizes[name]
    return [fold_of[group] for group in groups]


def split_tiles(tiles, scheme, seed=0):
    """{fold 1..5: (train tiles, test tiles)} under "random", "slide" or "hospital".

    Raises ValueError where there are fewer groups than folds.
    """
    folds = assign_folds([GROUPINGS[scheme](tile) for tile in tiles], n_folds=len(FOLDS), seed=seed)
    return {
        k: (
            [tile for tile, fold in zip(tiles, folds) if fold != k - 1],
            [tile for tile, fold in zip(tiles, folds) if fold == k - 1],
        )
        for k in FOLDS
    }


def official_splits(tiles, release):
    """{fold: (train tiles, test tiles)} from the release's train_test_splits/, by slide.

    Fold 999 is the release's small debug split. Empty where the release came without that
    folder. Tiles of slides that a fold does not name are in neither part. Raises DataError for a file without
    its partner, or a slide in both parts of one fold.
    """
    folder, splits = Path(release) / "train_test_splits", {}
    for k in (*FOLDS, 999):
        paths = {part: folder / f"fold_{k}_{part}.csv" for part in ("train", "test")}
        if not any(path.exists() for path in paths.values()):
            continue
        train, test = (_slides(paths[part]) for part in ("train", "test"))
        if train & test:
            raise DataError(
                f"{paths['test']}: slide {min(train & test)} is in {paths['train'].name} as well; "
                "remove it from one of them"
            )
        splits[k] = tuple([tile for tile in tiles if tile.slide in part] for part in (train, test))
    return splits


def _slides(path):
    """Slide names of a split file: header, then an index and the name in the second column."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"{path}: cannot be read ({err}); download it again") from None
    column = rows[0].index("slide_name") if rows and "slide_name" in rows[0] else 1
    for line, row in enumerate(rows[1:], start=2):
        if row and (len(row) <= column or not row[column].strip()):
            raise DataError(
                f"{path}, line {line}: no slide_name in column {column + 1}; correct or remove the row"
            )
    return {row[column].strip() for row in rows[1:] if row}
