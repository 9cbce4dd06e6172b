"""What a grid with simulated annotators says of the size of a study."""

import programs
import pytest
from cell_files import make_cell

from osal_detectron2.benchmark.results import read_cells
from osal_detectron2.benchmark.study import Study, describe_study, price_to_reach


@pytest.fixture
def results(tmp_path):
    """random reaches 30, 40 with errors of annotators 27, 37; osal_nd 2 more, with a spread that is known."""
    for seed, wiggle in enumerate((-1.0, 0.0, 1.0)):
        for setting, lower in (("perfect", 0.0), ("hasty", 3.0)):
            common = {"setting": setting, "seed": seed}
            make_cell(tmp_path, "random", **common, maps=(20.0, 30.0 - lower, 40.0 - lower))
            maps = (20.0, 32.0 - lower + wiggle, 42.0 - lower + 2 * wiggle)
            make_cell(tmp_path, "osal_nd", **common, maps=maps)
    return tmp_path


def size(folder, *options):
    return programs.osal("study", "size", folder, *options)


def test_pairs_and_minutes_by_hand(results, capsys):
    assert size(results, "--points", 2, "--reach", 30, "--sitting", 4) == 0
    text = capsys.readouterr().out
    # 30 and 50 tiles of 15 s, and 150 and 250 nuclei of 3 s: 15 and 25 minutes; the first round took 5.
    assert (
        "random, perfect: 3 of 3 cells do, in 15 minutes (15 to 15) and 30 tiles; 4 sittings of 4 minutes"
        in text
    )
    assert "random, hasty: 3 of 3 cells do, in 18 minutes" in text
    block = text.split("osal_nd minus random, perfect")[1].split("\n\n")[0]
    # Differences 1, 2, 3: spread 1, so dz = 2 and five pairs; then 0, 2, 4: spread 2, dz = 1 and ten.
    assert "30        15       3   +2.00     1.00   [-0.48, +4.48]     5 (" in block
    assert "50        25       3   +2.00     2.00   [-2.97, +6.97]     10 (" in block
    assert "hasty minus perfect, random" in text and "-3.00     0.00" in text
    assert "the pairs that show 2 points with a chance of 80 %" in text


def test_a_level_that_nobody_reaches_and_too_few_pairs(tmp_path, capsys):
    make_cell(tmp_path, "random", setting="perfect", maps=(20.0, 30.0))
    make_cell(tmp_path, "osal_nd", setting="perfect", maps=(20.0, 33.0))
    assert size(tmp_path, "--reach", 50) == 0
    text = capsys.readouterr().out
    assert "osal_nd, perfect: none of 1 cells does; its best mAP50 is 33.0" in text
    assert "too few pairs for a spread" in text
    cell = read_cells(tmp_path, methods=["random"])[0]
    assert (
        price_to_reach(cell, 25.0, "labelled_tiles") == 20
        and price_to_reach(cell, 10.0, "labelled_tiles") == 10
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--reference", "utss", "--annotators", "calm"], "no setting has the method utss"),
        (["--points", "0"], "--points must be above 0"),
        (["--power", "1"], "--power must be between"),
    ],
)
def test_what_cannot_be_said_is_refused(results, capsys, options, reason):
    assert size(results, *options) == 1
    assert reason in capsys.readouterr().err


def test_a_study_of_one_setting_needs_no_perfect_annotators(results):
    cells = read_cells(results, settings=["hasty"])
    assert "osal_nd minus random, hasty" in describe_study(cells, Study())
