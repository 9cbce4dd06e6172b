"""A run that starts from another run's round 0 gives, byte for byte, what it gives alone."""

import os
import random
import signal

import pytest
import torch
from miniature import record, train

from osal_detectron2.core.store import read_json
from osal_detectron2.core.verify import verify

KEEP = ["OSAL.SCHEDULE.KEEP_ROUNDS", "(0, 1)"]


def finish(start, config, *options, flags=()):
    process = start(config, options, flags)
    process.join()
    assert process.exitcode == 0


def weights(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)["model"]


@pytest.fixture(scope="module")
def donor(tiny_config, start, tmp_path_factory):
    """A run of another strategy with the same two detectors, which keeps its rounds 0 and 1."""
    folder = tmp_path_factory.mktemp("donor") / "run"
    finish(start, tiny_config, "OUTPUT_DIR", folder, "OSAL.STRATEGY", "count_all", *KEEP)
    return folder


def test_the_rounds_asked_for_are_kept_and_no_other(donor):
    assert sorted(p.name for p in donor.glob("round_*.pth")) == ["round_0.pth", "round_1.pth"]
    first, second = weights(donor, "round_0.pth"), weights(donor, "round_1.pth")
    assert any(not torch.equal(first[k], second[k]) for k in first)


def test_an_adopted_round_0_changes_nothing(tiny_config, reference, donor, start, tmp_path):
    folder = tmp_path / "run"
    finish(start, tiny_config, "OUTPUT_DIR", folder, "OSAL.SCHEDULE.ROUND_0", donor / "round_0.pth", *KEEP)
    assert record(folder) == record(reference)
    mine, alone = weights(folder), weights(reference)
    assert mine.keys() == alone.keys() and all(torch.equal(mine[k], alone[k]) for k in alone)
    given, kept = weights(donor, "round_0.pth"), weights(folder, "round_0.pth")
    assert all(torch.equal(given[k], kept[k]) for k in given), "an adopted round can be kept in turn"
    timing = [read_json(run / "rounds/000/timing.json") for run in (folder, donor)]
    assert timing[0]["train"] == timing[1]["train"] > 0
    log = (folder / "log.txt").read_text()
    assert "round 0 of 2" not in log and "round 1 of 2" in log


def test_a_plain_detector_is_shared_as_well(tiny_config, start, tmp_path):
    random_run, alone, adopted = (tmp_path / name for name in ("random", "alone", "adopted"))
    short = ["OSAL.BUDGET.NUM_QUERIES", 1]
    finish(start, tiny_config, "OUTPUT_DIR", random_run, "OSAL.STRATEGY", "random", *short, *KEEP)
    finish(start, tiny_config, "OUTPUT_DIR", alone, "OSAL.STRATEGY", "utss", *short)
    given = ["OSAL.SCHEDULE.ROUND_0", random_run / "round_0.pth"]
    finish(start, tiny_config, "OUTPUT_DIR", adopted, "OSAL.STRATEGY", "utss", *short, *given)
    assert record(adopted) == record(alone)


def test_kills_while_adopting_change_nothing(tiny_config, reference, donor, start, tmp_path):
    rng, kills = random.Random(1), 0
    given = ["OUTPUT_DIR", tmp_path, "OSAL.SCHEDULE.ROUND_0", donor / "round_0.pth", *KEEP]
    while kills < 6:
        process = start(tiny_config, given, ("--resume",))
        if (tmp_path / "boundary.pth").exists():
            process.join()
            break
        process.join(rng.uniform(0.05, 1.2))
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    finish(start, tiny_config, *given, flags=("--resume",))
    assert kills and record(tmp_path) == record(reference) and verify(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["OSAL.STRATEGY", "random"], "MODEL.META_ARCHITECTURE: OSALRCNN -> GeneralizedRCNN"),
        (["OSAL.SEED", 1], "OSAL.SEED: 0 -> 1"),
        (["SOLVER.BASE_LR", 0.02], "SOLVER.BASE_LR: 0.01 -> 0.02"),
        (["OSAL.BUDGET.INIT_TILES", 5], "labelled tiles: "),
    ],
)
def test_another_recipe_is_refused_with_its_key(tiny_config, donor, tmp_path, capsys, options, message):
    given = ["OSAL.SCHEDULE.ROUND_0", donor / "round_0.pth"]
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, *given, *options) == 1
    error = capsys.readouterr().err
    assert message in error and "comes from another recipe" in error
    assert not (tmp_path / "boundary.pth").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("round_1.pth", "round: 1 -> 0"),
        ("model_final.pth", "model_final.pth is not a round_0.pth"),
        ("run.json", "run.json is not a round_0.pth"),
        ("none.pth", "none.pth is not a file"),
    ],
)
def test_another_file_is_refused(tiny_config, donor, tmp_path, capsys, name, message):
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, "OSAL.SCHEDULE.ROUND_0", donor / name) == 1
    assert message in capsys.readouterr().err


def test_the_forward_passes_of_a_query_are_recorded(donor, reference):
    assert "passes" not in read_json(donor / "rounds/002/timing.json"), "the last round has no query"
    passes = read_json(reference / "rounds/000/timing.json")["passes"]
    pool = len(read_json(reference / "run.json")["pool"]) - 4
    assert passes["auxiliary"] == pool and passes["target"] == 8, (
        "2N candidates of a query of 4 (docs/reproducibility.md 4)"
    )
