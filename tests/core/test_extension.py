"""A run takes more rounds than it was started with; what is committed stays as it is, byte for byte."""

import json

import pytest
from ledger_driver import POOL, Driver

from osal_detectron2.core.errors import LedgerError
from osal_detectron2.core.extension import QUERIES
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.core.store import write_json
from osal_detectron2.core.verify import verify

LONGER = [2, 5, 8, 11, 12]


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_finished_run_goes_on_and_nothing_committed_changes(driver, finished):
    folder = finished.folder
    before = files(folder)
    finished.extend(plan=LONGER, queries=4)
    ledger = Ledger.open(folder)
    assert ledger.last_committed == 1, "the last round is open again: it gets a query"
    assert ledger.header["plan"] == LONGER and ledger.header["config"][QUERIES] == 4
    assert [ledger.budget(r) for r in (1, 2, 3, 4)] == [3, 3, 1, 0] and verify(folder) == []
    assert ledger.selection(2) is None, "the empty selection of the first commit does not count"
    driver.ledger = ledger
    driver.commit(2, POOL[7:10])
    driver.commit(3, [POOL[10]])
    driver.commit(4, [])
    assert verify(folder) == [] and Ledger.open(folder).last_committed == 4
    assert [c["selected"] for c in ledger.commits()][3:] == [POOL[7:10], [POOL[10]], []]
    assert len(ledger.labelled_keys()) == 11 and ledger.pool_keys() == []
    assert {p: b for p, b in files(folder).items() if p in before} == before


def test_a_run_is_extended_twice_and_in_the_middle_of_a_round(driver):
    driver.commit("init", POOL[:2])
    driver.ledger.extend(plan=[2, 5, 8, 11], queries=3)
    driver.ledger.extend(plan=LONGER, queries=4)  # the round is not committed: the later number holds
    driver.commit(0, POOL[2:5])
    driver.commit(1, POOL[5:8])
    assert driver.ledger.header["plan"] == LONGER and verify(driver.ledger.folder) == []
    driver.commit(2, POOL[8:11])
    driver.commit(3, POOL[11:])
    driver.commit(4, [])
    assert verify(driver.ledger.folder) == []
    assert not list(driver.ledger.folder.glob("rounds/*+"))


@pytest.mark.parametrize(
    ("plan", "queries", "reason"),
    [
        ([2, 5], 1, "cannot be cut to 1; a plan only grows"),
        ([2, 6, 8, 11], 3, "only OSAL.BUDGET.NUM_QUERIES may grow"),
    ],
)
def test_another_plan_is_refused_with_a_reason(finished, plan, queries, reason):
    before = files(finished.folder)
    with pytest.raises(LedgerError, match=reason):
        finished.extend(plan=plan, queries=queries)
    assert files(finished.folder) == before


def test_a_pool_that_is_used_up_gives_no_further_round(tmp_path):
    driver = Driver(tmp_path, plan=[6, 12])
    with pytest.raises(LedgerError, match="all 12 tiles of the pool are planned for"):
        driver.ledger.check_growth([6, 12])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rounds/002/commit.json", "the chain is broken"),
        ("rounds/002+/extension.json", "extension.json: changed after the round was committed"),
        ("rounds/002+/commit.json", "the chain is broken"),
    ],
)
def test_verify_sees_what_was_changed_in_an_extended_run(driver, finished, name, expected):
    finished.extend(plan=LONGER, queries=4)
    driver.commit(2, POOL[7:10])
    driver.commit(3, [POOL[10]])
    path = finished.folder / name
    write_json(path, {**json.loads(path.read_text()), "note": "by hand"})
    assert any(expected in finding for finding in verify(finished.folder))
