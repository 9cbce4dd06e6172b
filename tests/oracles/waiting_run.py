"""A run whose round 0 waits for people, and what they may send back."""

import json

import numpy as np

from osal_detectron2.core.ledger import SELECTION_SCHEMA
from osal_detectron2.core.store import write_json
from osal_detectron2.oracles.export import export_batch

POOL = [f"slide{i // 3}/tile{i}.png" for i in range(9)]
BATCH = [POOL[4], POOL[2], POOL[7]]  # in the suggested order
CLASSES = ["tumor", "lymphocyte", "debris"]


def export(folder, images, keys=BATCH, round_index=0, **options):
    predictions = {
        BATCH[0]: {
            "boxes": np.array([[10, 10, 20, 20], [90, 90, 30.004, 30]], dtype=np.float32),
            "classes": ["tumor", "lymphocyte"],
            "scores": np.array([0.9, 0.5]),
        },
        BATCH[1]: {"boxes": [[5, 5, 9, 9]], "classes": ["tumor"], "scores": [0.7]},
    }
    arguments = {
        "round_index": round_index,
        "keys": keys,
        "images": images,
        "classes": CLASSES,
        "predictions": predictions,
        "nuclei": {BATCH[0]: 4.0, BATCH[1]: 6.0, BATCH[2]: 2.0},
        "tile_scores": {BATCH[0]: {"pcss": 2.0, "utss": float("nan")}},
        "reasons": {BATCH[0]: "2 known nuclei"},
        "seconds_per_nucleus": 3.0,
        "seconds_per_tile": 15.0,
    }
    return export_batch(folder, **{**arguments, **options})


def select(ledger, round_index, selected):
    selection = {"schema": SELECTION_SCHEMA, "round": round_index, "strategy": "random", "selected": selected}
    write_json(ledger.round_dir(round_index) / "selection.json", selection)


def batch(run):
    return json.loads((run / "rounds/000/query/batch.json").read_text())


def put(tmp_path, content, name="returned.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content))
    return path


def reviewed(run, **reviews):
    """The batch with "review" set: tile0, tile1, tile2 in the order of the batch."""
    content = batch(run)
    for image in content["images"]:
        image["review"] = reviews.get(f"tile{image['rank'] - 1}", "pending")
    return content


def foreign(run, names=lambda key: key):
    """The batch as another tool returns it: own ids, own order, no review, no scores; box 1 of tile 0 moved."""
    content = batch(run)
    images = [
        {"id": 100 + i["id"], "file_name": names(i["file_name"]), "width": 100, "height": 100}
        for i in reversed(content["images"])
    ]
    categories = [{"id": 7 - c["id"], "name": c["name"]} for c in content["categories"]]
    annotations = [
        {
            "id": a["id"],
            "image_id": 100 + a["image_id"],
            "category_id": 7 - a["category_id"],
            "bbox": list(a["bbox"]),
        }
        for a in content["annotations"]
    ]
    annotations[0]["bbox"][0] += 3
    return {"images": images, "annotations": annotations, "categories": categories}


def files(run):
    return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file()}
