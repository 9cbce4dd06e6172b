"""How a run goes on: from its folder alone, with more rounds than it was planned for, as the pages for people say."""

import os
import random
import shutil
import signal

import pytest
import torch
from miniature import decisions, record, train

from osal_detectron2.core.store import read_json, sha256_file, write_json
from osal_detectron2.core.verify import verify
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.oracles.status import run_status
from osal_detectron2.renamed import RENAMED


def words(*options):
    """`osal train` with these words alone; returns its exit code."""
    return train("", *options)


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def same_but_for_the_start(folder, reference, *, first=1):
    """Whether a run that was extended at round `first` chose, labelled, measured and trained what `reference` did."""
    for name in ("init", "000", "001", "002"):
        mine = folder / "rounds" / (f"{name}+" if name == f"{first:03d}" else name)
        for file in ("selection.json", "labels.json", "metrics.json", "scores.npz"):
            theirs = reference / "rounds" / name / file
            assert not theirs.exists() or (mine / file).read_bytes() == theirs.read_bytes(), (name, file)
    mine, theirs = weights(folder), weights(reference)
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    rows = [[{k: v for k, v in row.items() if not k.startswith("seconds")} for row in read_curve(run)]
            for run in (folder, reference)]  # fmt: skip
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def short(tiny_config, tmp_path_factory):
    """The reference run, planned for one query instead of two, at its end."""
    folder = tmp_path_factory.mktemp("short") / "run"
    assert train(tiny_config, "OUTPUT_DIR", folder, "OSAL.BUDGET.NUM_QUERIES", "1") == 0
    return folder


def test_a_finished_run_takes_further_rounds(short, reference, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(short, folder)
    before = record(folder)
    assert words("--dry-run", "OUTPUT_DIR", folder, "OSAL.BUDGET.NUM_QUERIES", 2) == 0
    assert "the query of round 1" in capsys.readouterr().out and record(folder) == before
    assert words("--resume", "OUTPUT_DIR", folder, "OSAL.BUDGET.NUM_QUERIES", 2) == 0
    assert "  2 " in capsys.readouterr().out
    after = record(folder)
    assert {name: after[name] for name in before} == before and verify(folder) == []
    same_but_for_the_start(folder, reference)
    assert words("--resume", "OUTPUT_DIR", folder) == 0 and record(folder) == after
    assert words("--resume", "OUTPUT_DIR", folder, "OSAL.BUDGET.NUM_QUERIES", 1) == 1
    assert "planned for 2 queries and cannot be cut to 1" in capsys.readouterr().err
    assert record(folder) == after


def test_kills_while_a_run_is_extended_change_nothing(short, reference, start, tmp_path):
    rng, kills = random.Random(3), 0
    folder = tmp_path / "run"
    shutil.copytree(short, folder)
    while True:
        process = start("", ["OUTPUT_DIR", folder, "OSAL.BUDGET.NUM_QUERIES", 2], ("--resume",))
        process.join(rng.uniform(0.1, 1.0) if kills < 4 else None)
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0 and kills and verify(folder) == []
    same_but_for_the_start(folder, reference)


def test_the_sequence_for_people_goes_on_as_it_is_written(tiny_config, tmp_path, capsys):
    """docs/human_oracle.md: the oracle is named once, and not again by who goes on."""
    folder = tmp_path / "run"
    asked = "awaiting labels for 4 tiles of round init"
    assert train(tiny_config, "OSAL.ORACLE.NAME", "human", "OUTPUT_DIR", folder) == 0
    assert asked in capsys.readouterr().out
    for command in (
        ["--resume", "OUTPUT_DIR", folder],
        ["OUTPUT_DIR", folder, "--resume"],
        ["--config-file", tiny_config, "--resume", "OUTPUT_DIR", folder],
    ):
        assert words(*command) == 0
        assert asked in capsys.readouterr().out
    other = tmp_path / "other.yaml"
    other.write_text("SOLVER: {BASE_LR: 0.5}\n")
    assert words("--config-file", other, "--resume", "OUTPUT_DIR", folder) == 1
    assert "SOLVER.BASE_LR: 0.01 -> 0.5" in capsys.readouterr().err
    assert read_json(folder / "run.json")["front"] == "yaml"


def test_the_folder_of_an_older_version_goes_on(reference, tmp_path):
    """It has config.yaml alone."""
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    (folder / "run.yaml").unlink()
    assert words("OUTPUT_DIR", folder, "--resume") == 0
    assert record(folder) == record(reference) and (folder / "run.yaml").is_file()


def test_a_run_of_an_older_version_goes_on_from_the_middle_of_its_first_round(reference, tmp_path):
    """Its header has no front and old names of keys; it was killed before its first checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(reference / "rounds/init", folder / "rounds/init")
    shutil.copyfile(reference / "config.yaml", folder / "config.yaml")
    header, commit = read_json(reference / "run.json"), read_json(reference / "rounds/init/commit.json")
    del header["front"]
    old_names = {new: old for old, new in RENAMED.items()}
    header["config"] = {old_names.get(key, key): value for key, value in header["config"].items()}
    write_json(folder / "run.json", header)
    write_json(folder / "rounds/init/commit.json", {**commit, "previous": sha256_file(folder / "run.json")})
    begun = record(folder)
    assert "lazy" not in run_status(folder) and verify(folder) == []
    assert words("--resume", "OUTPUT_DIR", folder) == 0
    after, theirs = decisions(folder), decisions(reference)
    assert {name: record(folder)[name] for name in begun} == begun and verify(folder) == []
    assert {**after, "run.json": None} == {**theirs, "run.json": None}
    mine, final = weights(folder), weights(reference)
    assert all(torch.equal(mine[k], final[k]) for k in final)


def test_a_folder_without_a_run_needs_a_config(tmp_path, capsys):
    assert words("--resume", "OUTPUT_DIR", tmp_path / "none") == 1
    assert "no run to go on with" in capsys.readouterr().err and not (tmp_path / "none").exists()
