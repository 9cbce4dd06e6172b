"""Folds: disjoint, covering, even, grouped and the same for the same seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osal_detectron2.core.errors import DataError
from osal_detectron2.data.nucls import Tile
from osal_detectron2.data.nucls_splits import assign_folds, official_splits, split_tiles


def make_tiles(n=40, slides=12, hospitals=6):
    return [
        Tile(f"t{i}.png", 64, 64, f"S{i % slides}", f"H{i % slides % hospitals}", {}, ()) for i in range(n)
    ]


@given(st.lists(st.integers(0, 30).map(str), min_size=1, max_size=200), st.integers(0, 5))
def test_groups_stay_together_and_no_fold_is_empty(groups, seed):
    if len(set(groups)) < 5:
        with pytest.raises(ValueError):
            assign_folds(groups, seed=seed)
        return
    folds = assign_folds(groups, seed=seed)
    assert set(folds) == {0, 1, 2, 3, 4}
    assert len(set(zip(groups, folds))) == len(set(groups))
    sizes, largest = Counter(folds), max(Counter(groups).values())
    assert max(sizes.values()) - min(sizes.values()) <= largest


def test_single_items_give_equal_parts_that_follow_the_seed():
    keys = [f"tile{i}" for i in range(23)]
    folds = assign_folds(keys, seed=1)
    assert sorted(Counter(folds).values()) == [4, 4, 5, 5, 5]
    assert folds == assign_folds(keys, seed=1) != assign_folds(keys, seed=2)
    assert dict(zip(keys, folds)) == dict(zip(keys[::-1], assign_folds(keys[::-1], seed=1)))


def test_large_groups_are_placed_first():
    groups = ["a"] * 10 + ["b"] * 6 + ["c"] * 4 + ["d"] * 3 + ["e"] * 2 + ["f"] * 1
    sizes = Counter(assign_folds(groups, seed=0))
    assert sorted(sizes.values()) == [3, 3, 4, 6, 10]


@pytest.mark.parametrize(
    "scheme, of", [("random", "file_name"), ("slide", "slide"), ("hospital", "hospital")]
)
def test_folds_cover_every_tile_once_in_a_test_part(scheme, of):
    tiles = make_tiles()
    splits = split_tiles(tiles, scheme, seed=3)
    assert sorted(splits) == [1, 2, 3, 4, 5]
    assert sorted(t.file_name for _, test in splits.values() for t in test) == sorted(
        t.file_name for t in tiles
    )
    for train, test in splits.values():
        assert len(train) + len(test) == len(tiles)
        assert not {getattr(t, of) for t in train} & {getattr(t, of) for t in test}


def write_split(folder, name, slides):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(",slide_name\n" + "".join(f"{i},{s}\n" for i, s in enumerate(slides)))


def test_official_folds_go_by_slide(tmp_path):
    folder = tmp_path / "train_test_splits"
    write_split(folder, "fold_1_train.csv", ["S0", "S1"])
    write_split(folder, "fold_1_test.csv", ["S2"])
    write_split(folder, "fold_999_train.csv", ["S0"])
    write_split(folder, "fold_999_test.csv", ["S1"])
    splits = official_splits(make_tiles(12, slides=4), tmp_path)
    assert sorted(splits) == [1, 999]
    train, test = splits[1]
    assert {t.slide for t in train} == {"S0", "S1"} and {t.slide for t in test} == {"S2"}
    assert len(train) == 6 and len(test) == 3


def test_official_files_that_contradict_or_are_cut_off(tmp_path):
    folder = tmp_path / "train_test_splits"
    write_split(folder, "fold_2_train.csv", ["S0", "S1"])
    with pytest.raises(DataError, match="fold_2_test.csv"):
        official_splits(make_tiles(), tmp_path)
    write_split(folder, "fold_2_test.csv", ["S1"])
    with pytest.raises(DataError, match="slide S1 is in fold_2_train.csv as well"):
        official_splits(make_tiles(), tmp_path)
    (folder / "fold_2_test.csv").write_text(",slide_name\n0,S2\n1\n")
    with pytest.raises(DataError, match="line 3"):
        official_splits(make_tiles(), tmp_path)
    assert official_splits(make_tiles(), folder) == {}
