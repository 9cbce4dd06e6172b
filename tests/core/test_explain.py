import numpy as np
import pytest
from ledger_driver import POOL

from osal_detectron2.core.errors import DataError, LedgerError
from osal_detectron2.core.explain import explain
from osal_detectron2.core.store import write_npz


@pytest.fixture
def scored(driver):
    """Round 0 queries tiles 5 and 4; tile 4 has the second highest score, tile 7 none."""
    driver.commit("init", POOL[:2])
    keys = driver.ledger.pool_keys()
    score = np.array([{POOL[5]: 9.0, POOL[4]: 5.0, POOL[7]: np.nan}.get(key, 1.0) for key in keys])
    selected = np.isin(keys, POOL[4:6])
    write_npz(driver.ledger.round_dir(0) / "scores.npz", keys=np.array(keys), pcss=score, selected=selected)
    driver.select(0, [POOL[5], POOL[4]])
    return driver


def test_a_queried_tile(scored):
    expected = f"""tile {POOL[4]}
  round 0: pcss 5 (2 of 9)
  round 0: queried, place 2 of 2: drawn {POOL[4]}
  now: """
    assert explain(scored.ledger.folder, POOL[4]) == expected + "waits for its labels"
    scored.commit(0, [POOL[5], POOL[4]], {POOL[4]: "rejected"})
    assert explain(scored.ledger.folder, POOL[4]) == expected + "rejected"


def test_tiles_of_the_start_and_of_the_pool(scored):
    first = explain(scored.ledger.folder, POOL[1])
    assert (
        "round init: drawn first, place 2 of 2" in first and "now: labelled" in first and "pcss" not in first
    )
    rest = explain(scored.ledger.folder, POOL[7])
    assert "pcss not computed" in rest and rest.endswith("not selected so far")


def test_a_beginning_or_a_part_that_one_tile_has_is_enough(scored):
    """POOL is slide0/tile00.png, slide1/tile01.png, slide2/tile02.png, slide0/tile03.png, ..."""
    folder = scored.ledger.folder
    with pytest.raises(
        LedgerError, match=f"3 tiles have slide1/tile0 in their name: .*{POOL[4]}.*write more"
    ):
        explain(folder, "slide1/tile0")
    assert explain(folder, "slide1/tile04") == explain(folder, POOL[4])
    assert explain(folder, "tile04") == explain(folder, "04") == explain(folder, POOL[4])
    with pytest.raises(LedgerError, match="12 tiles have slide in their name: .*, ...; write"):
        explain(folder, "slide")


def test_a_misspelt_tile_and_a_damaged_score_file(scored):
    with pytest.raises(LedgerError, match=f"do you mean.*{POOL[4]}"):
        explain(scored.ledger.folder, POOL[4].replace(".png", ".jpg"))
    path = scored.ledger.round_dir(0) / "scores.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"scores\.npz"):
        explain(scored.ledger.folder, POOL[4])
