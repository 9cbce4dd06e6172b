"""The grid file: what it means, and what is said of a wrong one."""

from pathlib import Path

import pytest
import yaml

from osal_detectron2.benchmark.grid import Cell, read_grid
from osal_detectron2.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "config": "base.yaml",
    "options": ["A.X", 1],
    "methods": {"osal_nd": {"OSAL.STRATEGY": "osal_nd"}, "full": {"A.X": 2}},
    "settings": {"5_2": {"K": ["a", "b"]}, "4_3": None},
    "seeds": [0, 1],
}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.yaml").write_text("")

    def to_file(**changes):
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
        return path

    return to_file


def test_cells_come_by_seed_then_setting_then_fold_then_method(write):
    cells = read_grid(write(folds={"f1": {}, "f2": {}})).cells()
    assert [cell.id for cell in cells[:5]] == [
        "5_2/f1/osal_nd/0", "5_2/f1/full/0", "5_2/f2/osal_nd/0", "5_2/f2/full/0", "4_3/f1/osal_nd/0",
    ]  # fmt: skip
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8


def test_options_go_from_the_general_to_the_particular(write):
    grid = read_grid(write(folds={"f1": {"F": True}}))
    first, full = grid.cells(settings=["5_2"], seeds=[1], options=["SOLVER.LR", "0.1"])
    assert first.options == (
        "A.X", "1", "K", "['a', 'b']", "F", "True", "OSAL.STRATEGY", "osal_nd", "OSAL.SEED", "1", "SOLVER.LR", "0.1",
    )  # fmt: skip
    words = dict(zip(full.options[::2], full.options[1::2]))
    assert words["OSAL.BUDGET.INIT_FRACTION"] == "1.0" and words["OSAL.BUDGET.NUM_QUERIES"] == "0"
    assert words["A.X"] == "2"


def test_the_initial_tiles_alone_are_one_training_without_a_query(write):
    (cell,) = read_grid(write(methods={"initial_only": None})).cells(
        settings=["5_2"], folds=["all"], seeds=[1]
    )
    words = dict(zip(cell.options[::2], cell.options[1::2]))
    assert words["OSAL.BUDGET.NUM_QUERIES"] == "0" and "OSAL.BUDGET.INIT_FRACTION" not in words


def test_result_names_tell_all_cells_apart(write):
    cells = read_grid(write()).cells()
    assert len({cell.result_name for cell in cells}) == len(cells)
    assert Cell("5_2", "f1", "osal_nd", 3, ()).result_name == "5_2-f1-osal_nd-3.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "key methods is missing or empty"),
        ({"method": {"a": {}}}, "key method is unknown"),
        ({"methods": ["a"]}, "methods must map a name to its options"),
        ({"methods": {"osal-nd": {}}}, "'osal-nd' cannot be a name"),
        ({"settings": {52: {}}}, "52 cannot be a name.*quote numbers"),
        ({"methods": {"a": ["KEY"]}}, "methods.a must be"),
        ({"options": ["KEY"]}, "options must be"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": [1, 1]}, "names a seed twice"),
        ({"seeds": [True]}, "seeds must be a list"),
        ({"config": "none.yaml"}, "none.yaml is not a file"),
    ],
)
def test_a_wrong_grid_is_refused_with_its_file_and_key(write, changes, message):
    with pytest.raises(ConfigError, match=rf"grid\.yaml: .*{message}"):
        read_grid(write(**changes))


def test_a_selection_that_the_grid_does_not_have_is_refused(write):
    with pytest.raises(ConfigError, match="methods: the grid has no pcss; it has osal_nd, full"):
        read_grid(write()).cells(methods=["pcss", "full"])


def test_what_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=r"grid\.yaml: not YAML"):
        read_grid(path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/benchmarks").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_grids_of_the_repository_can_be_read(path):
    cells = read_grid(path).cells()
    assert len({cell.id for cell in cells}) == len(cells) > 0
    assert {"random", "osal_nd"} <= {cell.method for cell in cells}
