"""The numbers of the table, by hand and against scipy."""

import csv
import json
import re

import pytest
from cell_files import make_cell
from programs import osal
from scipy import stats

from osal_detectron2.benchmark.results import read_cells
from osal_detectron2.benchmark.table import (
    build_table,
    compare_paired,
    format_markdown,
    fraction_reaching,
    write_tables,
)


def rows_of(folder, **options):
    return {(row["setting"], row["method"]): row for row in build_table(read_cells(folder), **options)}


def test_paired_differences_agree_with_scipy():
    ours = {0: 31.0, 1: 30.0, 2: 33.5, 3: 29.0, 4: 35.0, 5: 30.5, 6: 31.0, "alone": 90.0}
    theirs = {0: 30.0, 1: 30.5, 2: 31.0, 3: 27.0, 4: 31.5, 5: 30.5, 6: 27.0, 7: 1.0}
    result = compare_paired(ours, theirs)
    a, b = [ours[i] for i in range(7)], [theirs[i] for i in range(7)]
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert result.n == 7 and result.mean == pytest.approx(12.5 / 7)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    assert (result.wins, result.ties, result.losses) == (5, 1, 1)
    assert result.p == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_three_pairs_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.302653.
    result = compare_paired({0: 11.0, 1: 12.0, 2: 13.0}, {0: 10.0, 1: 10.0, 2: 10.0})
    assert result.mean == 2.0 and result.p is None
    assert (result.low, result.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_too_few_pairs_and_nothing_but_ties():
    one = compare_paired({0: 11.0}, {0: 10.0})
    assert (one.n, one.mean, one.low, one.high, one.p) == (1, 1.0, None, None, None)
    none = compare_paired({0: 11.0}, {1: 10.0, 0: None})
    assert (none.n, none.mean) == (0, None)
    same = {i: float(i) for i in range(6)}
    ties = compare_paired(same, same)
    assert (ties.ties, ties.p, ties.low, ties.high) == (6, 1.0, 0.0, 0.0)


def test_the_numbers_of_a_small_grid(tmp_path):
    for seed, shift in ((0, 0.0), (1, 2.0)):
        make_cell(tmp_path, seed=seed, maps=(20.0 + shift, 30.0 + shift, 40.0 + shift))
        make_cell(tmp_path, "random", seed=seed, maps=(20.0, 24.0, 28.0))
        make_cell(tmp_path, "full", seed=seed, maps=(40.0,))
    rows = rows_of(tmp_path)
    osal, random, full = (rows["5+2", method] for method in ("osal_nd", "random", "full"))
    assert (osal["aulc"], osal["aulc_sd"]) == pytest.approx((31.0, 2**0.5))
    assert (osal["final_mAP50"], random["aulc"], random["aulc_sd"]) == pytest.approx((41.0, 24.0, 0.0))
    assert osal["target_mAP50"] == pytest.approx(38.0)
    # The mean curve is 21, 31, 41 at 0.1, 0.3, 0.5: 38 is 7/10 of the way through the last step.
    assert osal["fraction_to_target"] == pytest.approx(0.44) and random["fraction_to_target"] is None
    assert (osal["purity"], osal["passes"], osal["nuclei_annotated"]) == pytest.approx((0.8, 240, 250))
    assert (osal["labelled_tiles"], osal["minutes_annotated"]) == (50, 25)
    assert random["aulc_paired"]["mean"] == pytest.approx(-7.0) and random["aulc_paired"]["losses"] == 2
    assert random["final_paired"]["mean"] == pytest.approx(-13.0)
    assert osal["aulc_paired"] is None and full["aulc_paired"] is None and full["aulc"] is None


def test_methods_are_compared_first_over_the_minutes_that_all_have_paid(tmp_path):
    """OSAL-ND's tiles cost half as much again: at equal minutes its lead is smaller than along the tiles."""
    dear = json.loads(make_cell(tmp_path).read_text())["rounds"]
    for row in dear:
        row["minutes_annotated"] = row["labelled_tiles"] * 0.75
    make_cell(tmp_path, rounds=dear)
    cheap = make_cell(tmp_path, "random", maps=(20.0, 29.0, 38.0))
    content = json.loads(cheap.read_text())
    for row in content["rounds"]:
        row["minutes_annotated"] = row["labelled_tiles"] * 0.5
    cheap.write_text(json.dumps(content))
    make_cell(tmp_path, "full", maps=(50.0,))
    rows = rows_of(tmp_path)
    osal, random, full = (rows["5+2", method] for method in ("osal_nd", "random", "full"))
    # 7.5 (where OSAL-ND begins) to 25 minutes (where Random ends). Random: 20 at 5, then 0.9 a minute; OSAL-ND: 20 at
    # 7.5, then 2/3 a minute.
    assert random["aulc_minutes"] == pytest.approx(20 + 0.9 * (16.25 - 5))
    assert osal["aulc_minutes"] == pytest.approx(20 + (16.25 - 7.5) * 2 / 3)
    assert random["aulc_minutes_paired"]["wins"] == 1 and random["aulc_paired"]["wins"] == 0
    assert full["aulc_minutes"] is None
    text = format_markdown(list(rows.values()), reference="osal_nd", target=0.95)
    assert (
        text.index(" AULC over minutes |") < text.index(" AULC |")
        and f"**{random['aulc_minutes']:.2f}**" in text
    )


def test_a_level_reached_at_once_or_never(tmp_path):
    make_cell(tmp_path)
    cells = read_cells(tmp_path)
    assert fraction_reaching(cells, 20.0) == pytest.approx(0.1)
    assert fraction_reaching(cells, 40.0) == pytest.approx(0.5)
    assert fraction_reaching(cells, 40.1) is None


def test_an_incomplete_grid_compares_common_cells_and_says_so(tmp_path):
    for seed in range(3):
        make_cell(tmp_path, seed=seed, maps=(20.0, 30.0, 40.0 + seed))
    make_cell(tmp_path, "random", seed=1, maps=(20.0, 30.0, 31.0))
    make_cell(tmp_path, "random", setting="3+4", seed=0)
    rows = rows_of(tmp_path)
    random = rows["5+2", "random"]
    assert (random["cells"], random["cells_in_setting"]) == (1, 3)
    assert random["final_paired"]["n"] == 1 and random["final_paired"]["mean"] == -10.0  # seed 1: 31 - 41
    text = format_markdown(list(rows.values()), reference="osal_nd", target=0.95, warnings=["look out"])
    assert (
        "| Random | 1 of 3 | 27.75 | 27.75 | 31.00 |" in re.sub(" +", " ", text) and "-10.00 [n < 2]" in text
    )
    assert "No cell of OSAL-ND here" in text and "**Warning.** look out." in text
    assert "**41.00 ± 1.00**" in text and "of full" not in text


def test_folds_and_settings_are_paired_by_name(tmp_path):
    for setting in ("5+2", "3+4"):
        for fold in ("a", "b", "c"):
            make_cell(tmp_path, setting=setting, fold=fold, maps=(20.0, 30.0, 40.0))
            make_cell(tmp_path, "cald", setting=setting, fold=fold, maps=(20.0, 30.0, 40.0 + ord(fold) / 100))
    total = rows_of(tmp_path)["all settings", "cald"]["final_paired"]
    assert (total["n"], total["wins"]) == (6, 6) and total["mean"] == pytest.approx(0.98)
    assert total["p"] == pytest.approx(2 / 2**6, abs=0.02)  # all six of one sign


def test_another_reference(tmp_path):
    make_cell(tmp_path)
    make_cell(tmp_path, "random", maps=(20.0, 30.0, 30.0))
    row = rows_of(tmp_path, reference="random")["5+2", "osal_nd"]
    assert row["final_paired"]["mean"] == 10.0


def test_three_files_say_the_same(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    make_cell(results)
    make_cell(results, "random", maps=(20.0, 30.0, 30.0))
    text = write_tables(read_cells(results), tmp_path / "out")
    assert (tmp_path / "out" / "table.md").read_text() == text
    with open(tmp_path / "out" / "table.csv", newline="") as file:
        table = list(csv.DictReader(file))
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["method"] for row in table] == ["osal_nd", "random"]
    assert float(table[1]["final_paired_mean"]) == stored["rows"][1]["final_paired"]["mean"] == -10.0
    assert table[1]["final_paired_low"] == "" and stored["schema"] == "osal-table/1"


def test_the_tool_writes_figures_and_tables_or_one_line(tmp_path, capsys):
    results, out = tmp_path / "results", tmp_path / "out"
    results.mkdir()
    path = make_cell(results)
    make_cell(results, "random")
    assert osal("plot", results, "--out", out, "--format", "png,svg") == 0
    assert "| OSAL-ND | 1 of 1 | **30.00** | **30.00** |" in re.sub(" +", " ", capsys.readouterr().out)
    assert {"fig2_map.png", "fig2_map.svg", "purity.png", "table.md", "table.csv", "results.json"} <= {
        p.name for p in out.iterdir()
    }
    assert not (out / "fig4_ablations.png").exists()  # no ablation was run
    path.write_text("{")
    assert osal("plot", results, "--out", out) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}") and error.count("\n") == 1
    make_cell(results)
    assert osal("plot", results, "--out", out, "--format", "gif") == 1
    assert "--format: 'gif'" in capsys.readouterr().err
