import json
import os
import random
import signal
import tempfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_driver import POOL, Driver, answer

from osal_detectron2.core.errors import DataError, LedgerError
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.core.round_files import write_metrics
from osal_detectron2.core.round_state import RoundState
from osal_detectron2.core.store import sha256_file, write_json
from osal_detectron2.core.verify import verify


def test_header_is_as_given_and_a_second_run_is_refused(driver):
    header = Ledger.open(driver.ledger.folder).header
    assert (
        header["pool"] == sorted(POOL)
        and header["plan"] == [2, 5, 8]
        and header["known_classes"] == ["tumor"]
    )
    assert header["config"] == {"OSAL.SEED": 1, "SOLVER.STEPS": [1, 2]}
    with pytest.raises(LedgerError, match="--resume"):
        Driver(driver.ledger.folder)


@pytest.mark.parametrize("plan", [[], [0, 2], [2, 2], [5, 2], [2, 13]])
def test_a_plan_that_does_not_fit_the_pool(tmp_path, plan):
    with pytest.raises(LedgerError, match="plan"):
        Driver(tmp_path, plan=plan)


def test_tiles_of_the_same_name_are_refused(tmp_path):
    with pytest.raises(LedgerError, match="two tiles named a"):
        Driver(tmp_path, pool=["a", "b", "a"], plan=[1])


def test_the_whole_passage(finished):
    """Rejected tiles leave the pool and are not trained on; empty ones are; order is that of selection."""
    ledger = Ledger.open(finished.folder)
    assert ledger.last_committed == 2 and ledger.is_committed("init") and not ledger.is_committed(3)
    assert [c["round"] for c in ledger.commits()] == ["init", 0, 1, 2]
    expected = [POOL[3], POOL[1], POOL[4], POOL[5], POOL[11], POOL[0], POOL[2]]
    assert ledger.labelled_keys() == expected
    assert ledger.pool_keys() == sorted(POOL[7:11])
    assert list(ledger.labels()) == [*expected[:4], POOL[6], *expected[4:]]
    assert ledger.labels()[POOL[6]].state == "rejected"
    assert [ledger.budget(r) for r in ("init", 0, 1, 2)] == [2, 3, 3, 0]


def test_the_state_of_a_round_says_what_is_left_to_do(driver):
    """Of a round that is not there, one whose labels are awaited, one that is answered, one that is final."""
    ledger = driver.ledger
    driver.commit("init", POOL[:2], {POOL[1]: "rejected"})
    state = RoundState.read(ledger, 0)
    assert (state.selected, state.metrics, state.answered, state.committed) == (None, None, False, False)
    assert state.labelled == [POOL[0]] and state.pool == tuple(sorted(POOL[2:]))
    driver.select(0, POOL[4:7])
    assert RoundState.read(ledger, 0).selected == tuple(POOL[4:7])
    driver.select(0, POOL[:3])  # not of the pool: to be made again
    assert RoundState.read(ledger, 0).selected is None
    write_metrics(ledger.round_dir(0), {"round": 0})
    LabelFile(classes=("tumor",), tiles={key: answer(key) for key in POOL[4:7]}).write(
        ledger.round_dir(0) / "labels.json"
    )
    state = RoundState.read(ledger, 0)
    assert state.metrics["round"] == 0 and state.answered and not state.committed
    driver.commit(0, POOL[4:7])
    state = RoundState.read(ledger, 0)
    assert state.committed and state.labelled == [POOL[0], *POOL[4:7]]


def test_chain_and_hashes_are_those_of_the_files(finished):
    folder = finished.folder
    previous = sha256_file(folder / "run.json")
    for name in ("init", "000", "001", "002"):
        path = folder / "rounds" / name / "commit.json"
        commit = json.loads(path.read_text())
        assert commit["schema"] == "osal-commit/1" and commit["previous"] == previous
        assert commit["files"] == {n: sha256_file(path.parent / n) for n in ("selection.json", "labels.json")}
        previous = sha256_file(path)


@pytest.mark.parametrize(
    "round_index, selected, labels, word",
    [
        (1, POOL[4:7], None, "before round 0"),
        ("init", POOL[4:6], None, "other tiles or labels"),
        (0, [POOL[4], POOL[4]], None, "twice"),
        (0, [POOL[3], POOL[4]], None, "earlier round"),
        (0, ["nowhere.png"], None, "not a tile of the training set"),
        (0, POOL[4:8], None, "4 tiles are selected, but the plan gives 3"),
        (0, [], None, "no tile is selected"),
        (0, POOL[4:7], POOL[4:6], f"{POOL[6]} has no label"),
        (0, POOL[4:7], POOL[4:8], f"{POOL[7]} has labels but was not selected"),
    ],
)
def test_a_commit_that_contradicts_the_record_changes_nothing(driver, round_index, selected, labels, word):
    driver.commit("init", [POOL[3], POOL[1]])
    if round_index != "init":
        driver.select(round_index, selected)
    before = _tree(driver.ledger.folder)
    answers = {key: answer(key) for key in (selected if labels is None else labels)}
    with pytest.raises(LedgerError, match=word):
        driver.ledger.commit(round_index, selected=selected, labels=answers)
    assert _tree(driver.ledger.folder) == before


def test_the_selection_on_file_must_be_the_one_committed(driver):
    with pytest.raises(DataError, match=r"selection\.json"):
        driver.ledger.commit("init", selected=POOL[:1], labels={POOL[0]: answer(POOL[0])})
    driver.select("init", POOL[:2])
    with pytest.raises(LedgerError, match=r"selection\.json"):
        driver.ledger.commit("init", selected=POOL[:1], labels={POOL[0]: answer(POOL[0])})


def test_committing_again_is_harmless_only_if_it_is_the_same(driver):
    driver.commit("init", POOL[:2])
    before = _tree(driver.ledger.folder)
    driver.ledger.commit("init", selected=POOL[:2], labels={key: answer(key) for key in POOL[:2]})
    assert _tree(driver.ledger.folder) == before
    other = {POOL[0]: answer(POOL[0]), POOL[1]: answer(POOL[1], "rejected")}
    for selected, labels in ((POOL[:2], other), (POOL[1::-1], {key: answer(key) for key in POOL[:2]})):
        with pytest.raises(LedgerError, match="never changes"):
            driver.ledger.commit("init", selected=selected, labels=labels)
    assert _tree(driver.ledger.folder) == before


def test_imported_labels_are_kept_to_the_byte_and_never_replaced(driver):
    driver.select("init", POOL[:2])
    path = driver.ledger.round_dir("init") / "labels.json"
    labels = {key: answer(key) for key in POOL[:2]}
    LabelFile(classes=("tumor", "a class without boxes"), tiles=labels).write(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=f"other labels for tile {POOL[1]}"):
        driver.ledger.commit(
            "init", selected=POOL[:2], labels={**labels, POOL[1]: answer(POOL[1], "rejected")}
        )
    driver.ledger.commit("init", selected=POOL[:2], labels=labels)
    assert path.read_bytes() == before


def test_labels_left_by_a_killed_process_for_another_selection_are_replaced(driver):
    path = driver.ledger.round_dir("init") / "labels.json"
    LabelFile(classes=("tumor",), tiles={POOL[9]: answer(POOL[9])}).write(path)
    driver.commit("init", POOL[:2])
    assert set(LabelFile.read(path).tiles) == set(POOL[:2]) and verify(driver.ledger.folder) == []


def test_a_selection_is_offered_again_only_if_it_is_still_valid(driver):
    ledger = driver.ledger
    driver.commit("init", POOL[:2])
    assert ledger.selection(0) is None
    driver.select(0, POOL[4:7])
    assert ledger.selection(0)["selected"] == POOL[4:7]
    for wrong in (POOL[1:3], POOL[4:8], [POOL[4], POOL[4]], ["?"], []):
        driver.select(0, wrong)
        assert ledger.selection(0) is None
    path = ledger.round_dir(0) / "selection.json"
    for content in ("", "3", '{"schema": "osal-selection/1"}'):
        path.write_text(content)
        assert ledger.selection(0) is None
    assert ledger.selection("init")["selected"] == POOL[:2]


def test_config_changes_are_all_named_with_old_and_new_value(driver):
    ledger = driver.ledger
    ledger.check_config({"OSAL.SEED": 1, "SOLVER.STEPS": [1, 2]})
    with pytest.raises(LedgerError) as error:
        ledger.check_config({"OSAL.SEED": 2, "NEW": "x"})
    for part in (
        "OSAL.SEED: 1 -> 2",
        "SOLVER.STEPS: [1, 2] -> (not set)",
        'NEW: (not set) -> "x"',
        "OUTPUT_DIR",
    ):
        assert part in str(error.value)


def test_a_changed_data_set_is_named(driver):
    driver.ledger.check_dataset("d" * 64)
    with pytest.raises(LedgerError, match="dddddddddddd -> eeeeeeeeeeee"):
        driver.ledger.check_dataset("e" * 64)


def test_opening_what_is_no_run_and_what_is_damaged(tmp_path, driver):
    with pytest.raises(LedgerError, match=r"no run\.json"):
        Ledger.open(tmp_path / "nothing")
    path = driver.ledger.folder / "run.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"run\.json"):
        Ledger.open(driver.ledger.folder)
    write_json(path, {"schema": "osal-run/9"})
    with pytest.raises(LedgerError, match="schema"):
        Ledger.open(driver.ledger.folder)


def test_changed_labels_are_not_trained_on(finished):
    path = finished.round_dir(0) / "labels.json"
    path.write_text(path.read_text().replace("1.0", "1.5", 1))
    with pytest.raises(LedgerError, match=r"000/labels\.json: changed"):
        finished.labels()


def test_a_broken_chain_and_a_gap_are_refused(finished):
    path = finished.round_dir(0) / "commit.json"
    content = json.loads(path.read_text())
    write_json(path, {**content, "time": "2000-01-01"})
    with pytest.raises(LedgerError, match=r"001/commit\.json: was made after another version of 0"):
        finished.commits()
    path.unlink()
    with pytest.raises(LedgerError, match="round 001 is committed"):
        finished.commits()


def test_a_process_killed_at_any_instant_leaves_a_run_that_goes_on(tmp_path):
    """SIGKILL while rounds are being written: the record is sound each time, and ends as the unbroken one."""
    rng, kills, folder, plan = random.Random(1), 0, tmp_path / "killed", (2, 4, 6, 8, 10, 12)

    def work(target):
        driver = Driver(target, plan=plan) if not Ledger.exists(target) else _again(target)
        for round_index in ("init", 0, 1, 2, 3, 4, 5):
            if not driver.ledger.is_committed(round_index):
                keys = driver.ledger.pool_keys()[: driver.ledger.budget(round_index)]
                selection = driver.ledger.selection(round_index)
                driver.commit(round_index, selection["selected"] if selection else keys)

    began = time.perf_counter()
    work(tmp_path / "unbroken")
    step = (time.perf_counter() - began) / 8  # aims at some ten kills, on a fast disk or a slow one
    while True:
        child = os.fork()
        if child == 0:
            work(folder)
            os._exit(0)
        time.sleep(rng.uniform(0, step * 1.15**kills))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if Ledger.exists(folder):
            assert verify(folder) == []
        if os.WIFEXITED(status):
            break
        kills += 1
    assert kills >= 3, "the kills came too late: the test shows nothing"
    runs = [Ledger.open(tmp_path / name) for name in ("killed", "unbroken")]
    assert runs[0].labelled_keys() == runs[1].labelled_keys() == sorted(POOL)
    assert runs[0].last_committed == 5


def _again(folder):
    driver = object.__new__(Driver)
    driver.ledger = Ledger.open(folder)
    return driver


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_invariants_over_any_sequence_of_rounds(data):
    """Pool and selected tiles partition the training set, nothing is selected twice, the plan is kept."""
    total = data.draw(st.integers(1, 14))
    pool = [f"t{i}" for i in range(total)]
    plan = sorted(data.draw(st.sets(st.integers(1, total), min_size=1, max_size=4)))
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(folder, plan=plan, pool=pool)
        taken = []
        for round_index in ["init", *range(len(plan))]:
            ledger = Ledger.open(folder)
            left, budget = ledger.pool_keys(), ledger.budget(round_index)
            assert sorted(left + taken) == sorted(pool)
            size = data.draw(st.integers(1, min(budget, len(left)))) if budget else 0
            chosen = data.draw(st.permutations(left))[:size]
            states = {
                k: data.draw(st.sampled_from(["labelled", "reviewed_empty", "rejected"])) for k in chosen
            }
            driver.commit(round_index, chosen, states)
            taken += chosen
            labels = Ledger.open(folder).labels()
            assert list(labels) == taken
            assert Ledger.open(folder).labelled_keys() == [k for k in taken if labels[k].state != "rejected"]
            assert len(taken) <= plan[-1]
        assert verify(folder) == []


def _tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
