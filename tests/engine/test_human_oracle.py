"""People label: export, exit 0, import, resume. The run must end as one with a simulated oracle."""

import json
import subprocess
import sys

import pytest
from miniature import ROOT, command, train

from osal_detectron2.core.verify import verify


def al(*words):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools/al.py"), *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def label(batch_file, truth, *, leave=0):
    """What a person does with a batch: the true nuclei of every tile but the last `leave`."""
    batch = json.loads(batch_file.read_text())
    ids = {c["name"]: c["id"] for c in batch["categories"]}
    batch["annotations"] = []
    for image in batch["images"][: len(batch["images"]) - leave]:
        nuclei = truth[image["file_name"]]
        image["review"] = "done" if nuclei else "empty"
        for box, name in nuclei:
            batch["annotations"].append(
                {
                    "id": len(batch["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": ids[name],
                    "bbox": box,
                }
            )
    returned = batch_file.with_name("returned.json")
    returned.write_text(json.dumps(batch))
    return returned


@pytest.fixture(scope="module")
def truth(tiles):
    from osal_detectron2.data.coco import load_open_set_coco

    known = ["tumor", "lymphocyte", "stromal"]
    records = load_open_set_coco(
        str(tiles / "annotations/random_fold1_train.json"), str(tiles / "rgb"), known
    )
    return {r["image_key"]: [(a["bbox"], a["category_name"]) for a in r["annotations"]] for r in records}


def test_a_run_labelled_by_people_ends_as_a_simulated_one(tiny_config, reference, truth, tmp_path):
    folder = tmp_path / "run"
    options = ("OUTPUT_DIR", folder, "OSAL.ORACLE.NAME", "human")
    for name in ("init", "000", "001"):
        assert train(tiny_config, *options, flags=("--resume",)) == 0
        assert not (folder / "rounds" / name / "commit.json").exists(), (
            "nothing is committed before people answer"
        )
        assert "import" in al("status", folder).stdout
        batch = folder / "rounds" / name / "query" / "batch.json"
        if name != "init":
            assert any(a.get("score") for a in json.loads(batch.read_text())["annotations"]), (
                "pre-annotated, with scores"
            )
        partly = al("import", folder, label(batch, truth, leave=1))
        assert partly.returncode == 0, partly.stderr
        # A tile is still pending: starting again asks for it and trains nothing.
        assert train(tiny_config, *options, flags=("--resume",)) == 0
        assert not (folder / "rounds" / name / "commit.json").exists()
        assert al("import", folder, label(batch, truth)).returncode == 0
    assert train(tiny_config, *options, flags=("--resume",)) == 0
    assert verify(folder) == []
    for name in ("000", "001", "002"):
        mine, simulated = (
            json.loads((run / "rounds" / name / "metrics.json").read_text()) for run in (folder, reference)
        )
        assert mine == simulated


def test_a_wrong_file_is_refused_whole(tiny_config, truth, tmp_path):
    folder = tmp_path / "run"
    done = command(tiny_config, "OUTPUT_DIR", folder, "OSAL.ORACLE.NAME", "human")
    assert done.returncode == 0 and "awaiting labels for 4 tiles" in done.stdout
    batch = folder / "rounds/init/query/batch.json"
    returned = label(batch, truth)
    content = json.loads(returned.read_text())
    content["categories"].append({"id": 99, "name": "Tumour"})
    content["annotations"][0]["category_id"] = 99
    returned.write_text(json.dumps(content))
    refused = al("import", folder, returned)
    assert refused.returncode == 1 and "Tumour" in refused.stderr and "tumor" in refused.stderr
    assert not (folder / "rounds/init/labels.json").exists()
    assert al("import", folder, returned, "--map-class", "Tumour=tumor").returncode == 0
    assert (folder / "rounds/init/labels.json").exists()
