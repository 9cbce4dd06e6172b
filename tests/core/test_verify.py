import json
import shutil

import pytest
from ledger_driver import POOL

from osal_detectron2.core.store import sha256_file, write_json, write_npz
from osal_detectron2.core.verify import verify


def test_a_sound_run_has_no_findings(finished, driver, tmp_path):
    assert verify(finished.folder) == []


def test_a_run_that_has_just_begun_or_was_killed_is_sound(driver):
    assert verify(driver.ledger.folder) == []
    driver.select("init", POOL[:2])
    (driver.ledger.round_dir("init") / ".osal-tmp-1-x-labels.json").write_text("{")
    assert verify(driver.ledger.folder) == []


def _edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def _set(name, value):
    return lambda content: content.__setitem__(name, value)


@pytest.mark.parametrize(
    "tamper, expected",
    [
        (
            lambda f: _edit(
                f / "rounds/000/labels.json", lambda c: c["tiles"][POOL[4]]["boxes"][0].__setitem__(0, 9)
            ),
            ["000/labels.json: changed"],
        ),
        (
            lambda f: _edit(
                f / "rounds/000/labels.json", lambda c: c["tiles"][POOL[6]].update(state="reviewed_empty")
            ),
            ["000/labels.json: changed", f"tile {POOL[6]} is reviewed_empty, but was committed as rejected"],
        ),
        (
            lambda f: _edit(f / "rounds/000/labels.json", lambda c: c["tiles"].pop(POOL[4])),
            ["000/labels.json: changed", f"tile {POOL[4]} was selected but has no labels"],
        ),
        (lambda f: _edit(f / "run.json", _set("seed", 99)), ["init/commit.json: the chain is broken"]),
        (
            lambda f: _edit(f / "run.json", lambda c: c["pool"].remove(POOL[4])),
            ["chain", f"{POOL[4]} is not in the pool"],
        ),
        (
            lambda f: _edit(f / "run.json", _set("plan", [2, 4, 8])),
            ["chain", "3 tiles are selected, the plan gives 2"],
        ),
        (
            lambda f: _edit(f / "rounds/001/commit.json", _set("time", "x")),
            ["002/commit.json: the chain is broken"],
        ),
        (lambda f: (f / "rounds/001/labels.json").unlink(), ["001/labels.json: is missing"]),
        (lambda f: (f / "rounds/001/commit.json").unlink(), ["001/commit.json: is missing"]),
        (
            lambda f: (f / "rounds/001/commit.json").write_text('{"sch'),
            ["001/commit.json", "002/commit.json: the chain"],
        ),
        (lambda f: (f / "rounds/001/commit.json").write_text("[]"), ["001/commit.json: malformed", "002"]),
        (
            lambda f: _edit(f / "rounds/001/selection.json", _set("selected", [])),
            ["001/selection.json: changed", "001/selection.json: does not list"],
        ),
        (lambda f: write_npz(f / "rounds/001/scores.npz"), ["001/scores.npz: appeared"]),
        (lambda f: shutil.copytree(f / "rounds/001", f / "rounds/copy"), ["copy: is not a round"]),
        (lambda f: (f / "run.json").unlink(), ["no run.json"]),
        (lambda f: _edit(f / "run.json", lambda c: c.pop("plan")), ["run.json: entry 'plan'"]),
    ],
)
def test_each_kind_of_tampering_names_the_file(finished, tamper, expected):
    tamper(finished.folder)
    findings = verify(finished.folder)
    assert len(findings) == len(expected), findings
    for finding, words in zip(findings, expected):
        assert words in finding


def test_a_tile_paid_for_twice_is_found_even_with_every_hash_recomputed(finished):
    """Someone rewrites a round and repairs the chain behind it: the replay still sees the contradiction."""
    folder = finished.folder / "rounds"
    for name in ("selection.json", "commit.json"):
        _edit(folder / "001" / name, lambda c: c["selected"].__setitem__(0, POOL[4]))
    _edit(folder / "001/labels.json", lambda c: c["tiles"].__setitem__(POOL[4], c["tiles"].pop(POOL[11])))
    _edit(folder / "001/commit.json", lambda c: c["states"].__setitem__(POOL[4], c["states"].pop(POOL[11])))
    hashes = {n: sha256_file(folder / "001" / n) for n in ("selection.json", "labels.json")}
    _edit(folder / "001/commit.json", _set("files", hashes))
    _edit(folder / "002/commit.json", _set("previous", sha256_file(folder / "001/commit.json")))
    assert verify(finished.folder) == [
        f"{folder / '001/commit.json'}: tile {POOL[4]} was selected in round 0 already"
    ]
