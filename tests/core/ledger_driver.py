from osal_detectron2.core.labels import TileLabels
from osal_detectron2.core.ledger import SELECTION_SCHEMA, Ledger
from osal_detectron2.core.store import write_json

POOL = [f"slide{i % 3}/tile{i:02d}.png" for i in range(12)]


def answer(key, state="labelled"):
    return TileLabels(state, [[1, 2, 3, 4]], ["tumor"]) if state == "labelled" else TileLabels(state)


class Driver:
    """Does what the engine does to a ledger, without training."""

    def __init__(self, folder, plan=(2, 5, 8), pool=POOL):
        self.ledger = Ledger.create(
            folder,
            strategy="random",
            seed=1,
            known_classes=["tumor"],
            pool=pool,
            plan=plan,
            config={"OSAL.SEED": 1, "SOLVER.STEPS": (1, 2)},
            dataset_sha256="d" * 64,
            versions={"numpy": "2"},
        )

    def select(self, round_index, selected):
        selection = {
            "schema": SELECTION_SCHEMA,
            "round": round_index,
            "strategy": "random",
            "budget": len(selected),
        }
        selection |= {"selected": list(selected), "reasons": {k: f"drawn {k}" for k in selected}}
        write_json(self.ledger.round_dir(round_index) / "selection.json", selection)

    def commit(self, round_index, selected, states=None):
        labels = {key: answer(key, (states or {}).get(key, "labelled")) for key in selected}
        self.select(round_index, selected)
        self.ledger.commit(round_index, selected=list(selected), labels=labels)
