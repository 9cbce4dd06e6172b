import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "oracles"))
from exporting import DRAFTS, KEYS, SLIDE
from waiting_run import CLASSES, export

from osal_detectron2.core.ledger import Ledger


@pytest.fixture
def make(tmp_path):
    """make(slide=False): a run whose first round asks for KEYS; slide: the first two were cut of one."""

    def run(*, slide=False, name="run"):
        folder = tmp_path / name
        common = {
            "strategy": "random",
            "seed": 0,
            "known_classes": ["tumor"],
            "config": {},
            "dataset_sha256": "",
        }
        Ledger.create(folder, pool=KEYS, plan=[len(KEYS)], versions={}, **common)
        images = {}
        for number, key in enumerate(KEYS):
            path = tmp_path / "data" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode())
            images[key] = {
                "file_name": str(path),
                "width": 97 + 3 * (number == 4),
                "height": 53 + 20 * (number == 0),
            }
            if slide and number < 2:
                images[key]["origin"] = {**SLIDE, "x": 4000 + 300 * number, "y": 600}
        predictions = {
            key: {
                "boxes": [d[1] for d in drafts],
                "classes": [d[0] for d in drafts],
                "scores": [d[2] for d in drafts],
            }
            for key, drafts in DRAFTS.items()
        }
        nothing = dict.fromkeys(KEYS)
        options = {"nuclei": nothing, "tile_scores": {KEYS[0]: {"pcss": 1.5}}, "reasons": {}}
        export(folder, images, KEYS, round_index="init", classes=CLASSES, predictions=predictions, **options)
        return folder

    return run


@pytest.fixture
def run(make):
    return make()
