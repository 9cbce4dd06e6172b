"""Answer the batch that a run waits for, by the hidden truth: answer_batch.py RUN TRUTH_JSON OUT [MISSED].

MISSED nuclei, the last ones, are overlooked.
"""

import json
import sys
from pathlib import Path


def answer(batch: dict, truth: dict) -> dict:
    """`batch` with the boxes of `truth`, a COCO set with the same file names, and every tile reviewed."""
    names = {c["id"]: c["name"] for c in truth["categories"]}
    keys = {i["id"]: i["file_name"] for i in truth["images"]}
    ids = {c["name"]: c["id"] for c in batch["categories"]}
    images = {i["file_name"]: i for i in batch["images"]}
    batch["annotations"] = []
    for image in images.values():
        image["review"] = "empty"
    for nucleus in truth["annotations"]:
        image = images.get(keys[nucleus["image_id"]])
        if image and not nucleus.get("iscrowd"):
            image["review"] = "done"
            batch["annotations"].append(
                {
                    "id": len(batch["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": ids[names[nucleus["category_id"]]],
                    "bbox": nucleus["bbox"],
                }
            )
    return batch


if __name__ == "__main__":
    run, truth, out = map(Path, sys.argv[1:4])
    missed = int(sys.argv[4]) if sys.argv[4:] else 0
    newest = max(run.glob("rounds/*/query/batch.json"), key=lambda path: path.stat().st_mtime)
    answered = answer(json.loads(newest.read_text()), json.loads(truth.read_text()))
    answered["annotations"] = answered["annotations"][: len(answered["annotations"]) - missed]
    out.write_text(json.dumps(answered))
