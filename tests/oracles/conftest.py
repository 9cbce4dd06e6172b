import pytest
from waiting_run import BATCH, POOL, export, select

from osal_detectron2.core.labels import TileLabels
from osal_detectron2.core.ledger import Ledger


@pytest.fixture
def images(tmp_path):
    records = {}
    for key in POOL:
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
        records[key] = {"file_name": str(path), "width": 100, "height": 100}
    return records


@pytest.fixture
def run(tmp_path, images):
    """A run whose round 0 waits for three tiles."""
    folder = tmp_path / "run"
    ledger = Ledger.create(
        folder,
        strategy="random",
        seed=0,
        known_classes=["tumor"],
        pool=POOL,
        plan=[1, 4, 7],
        config={},
        dataset_sha256="",
        versions={},
    )
    select(ledger, "init", [POOL[0]])
    ledger.commit("init", selected=[POOL[0]], labels={POOL[0]: TileLabels("reviewed_empty")})
    select(ledger, 0, BATCH)
    export(folder, images)
    return folder
