import pytest
from ledger_driver import POOL, Driver


@pytest.fixture
def driver(tmp_path):
    return Driver(tmp_path / "run")


@pytest.fixture
def finished(driver):
    """Three rounds over twelve tiles: 2, 3 (one empty, one rejected), 3, and the last without a query."""
    driver.commit("init", [POOL[3], POOL[1]])
    driver.commit(0, POOL[4:7], {POOL[5]: "reviewed_empty", POOL[6]: "rejected"})
    driver.commit(1, [POOL[11], POOL[0], POOL[2]])
    driver.commit(2, [])
    return driver.ledger
