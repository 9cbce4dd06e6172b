"""People label: export, exit 0, import, resume. The run must end as one with a simulated oracle."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import programs
import pytest
from miniature import ROOT, command, train

from osal_detectron2.core.boxes import pairwise_iou_xywh
from osal_detectron2.core.labels import LabelFile, TileLabels
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.core.round_files import write_selection
from osal_detectron2.core.store import sha256_file
from osal_detectron2.core.verify import verify
from osal_detectron2.oracles import Oracle, Pending, register, simulated
from osal_detectron2.oracles.people import unknown_class
from osal_detectron2.scoring.drafts import pre_annotations
from osal_detectron2.strategies import Pass

KNOWN = ["tumor", "lymphocyte", "stromal"]


def al(*words):
    return programs.run([ROOT / "tools/al.py", *words], cwd=ROOT)


def label(batch_file, truth, *, leave=0):
    """What a person does with a batch: the true nuclei of every tile but the last `leave`.

    Unknown nuclei are labelled "unknown", of whatever class they are.
    """
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
                    "category_id": ids[name if name in KNOWN else "unknown"],
                    "bbox": box,
                }
            )
    returned = batch_file.with_name("returned.json")
    returned.write_text(json.dumps(batch))
    return returned


@pytest.fixture(scope="module")
def truth(tiles):
    from osal_detectron2.data.coco import load_open_set_coco

    records = load_open_set_coco(
        str(tiles / "annotations/random_fold1_train.json"), str(tiles / "rgb"), KNOWN
    )
    return {r["image_key"]: [(a["bbox"], a["category_name"]) for a in r["annotations"]] for r in records}


def check_drafts(batch):
    """One box a nucleus over both detectors, with its score; unknown nuclei among them."""
    names = {c["id"]: c["name"] for c in batch["categories"]}
    assert all("score" in a for a in batch["annotations"])
    drawn = {names[a["category_id"]] for a in batch["annotations"]}
    assert drawn <= {*KNOWN, "unknown"}, "names only what it can"
    for image in batch["images"]:
        boxes = [a["bbox"] for a in batch["annotations"] if a["image_id"] == image["id"]]
        iou = pairwise_iou_xywh(boxes, boxes)
        assert (iou[~np.eye(len(boxes), dtype=bool)] < 0.52).all()  # the file has two decimals


def test_a_run_labelled_by_people_ends_as_a_simulated_one(tiny_config, reference, truth, tmp_path):
    folder = tmp_path / "run"
    options = ("OUTPUT_DIR", folder, "OSAL.ORACLE.NAME", "human", "OSAL.ORACLE.DRAFT_SCORE", 0.0)
    options += ("OSAL.ORACLE.COPY_IMAGES", True)
    for name in ("init", "000", "001"):
        assert train(tiny_config, *options, flags=("--resume",)) == 0
        assert not (folder / "rounds" / name / "commit.json").exists(), (
            "nothing is committed before people answer"
        )
        assert "import" in al("status", folder).stdout
        batch = folder / "rounds" / name / "query" / "batch.json"
        if name != "init":
            check_drafts(json.loads(batch.read_text()))
        assert len(list((batch.parent / "images").iterdir())) == 4
        partly = al("import", folder, label(batch, truth, leave=1))
        assert partly.returncode == 0, partly.stderr
        # A tile is still pending: starting again asks for it and trains nothing.
        asked = batch.read_bytes()
        assert train(tiny_config, *options, flags=("--resume",)) == 0
        assert batch.read_bytes() == asked and not (folder / "rounds" / name / "commit.json").exists()
        assert al("import", folder, label(batch, truth)).returncode == 0
    assert train(tiny_config, *options, flags=("--resume",)) == 0
    assert verify(folder) == []
    for name in ("000", "001", "002"):
        mine, simulated = (
            json.loads((run / "rounds" / name / "metrics.json").read_text()) for run in (folder, reference)
        )
        assert mine == simulated


def test_labels_of_records_begin_a_run_and_measure_it(tiny_config, truth, tmp_path):
    """A campaign's: people have labelled the initial tiles; the test tiles only after the first round."""

    def begin(name, pool, count):
        header = {"strategy": "initial", "seed": 0, "known_classes": KNOWN, "config": {}, "versions": {}}
        record = Ledger.create(tmp_path / name, pool=pool, plan=[count], dataset_sha256="", **header)
        content = {
            "round_index": "init",
            "strategy": "initial",
            "budget": count,
            "candidates": 9,
            "reasons": {},
        }
        write_selection(record.round_dir("init"), selected=pool[:count], **content)
        return record

    def answer(record, nuclei):
        keys = record.selection("init")["selected"]
        labels = {}
        for key in keys:
            boxes, names = zip(*nuclei[key])
            labels[key] = TileLabels(
                "labelled", boxes, [n if n in KNOWN else "unknown" for n in names], "anna"
            )
        record.commit("init", selected=keys, labels=labels, classes=(*KNOWN, "unknown"))

    first, tested = sorted(key for key, nuclei in truth.items() if nuclei)[:4], _test_nuclei(tiny_config)
    answer(begin("first", first, 4), truth)
    test = begin("test", sorted(tested), 2)
    (tmp_path / "first.txt").write_text("\n".join(first))
    folder = tmp_path / "run"
    options = (
        "OUTPUT_DIR",
        folder,
        "OSAL.ORACLE.NAME",
        "human",
        "OSAL.BUDGET.INIT_FILE",
        tmp_path / "first.txt",
    )
    options += ("OSAL.ORACLE.INIT_RECORD", tmp_path / "first", "OSAL.DATA.TEST_RECORD", tmp_path / "test")
    assert train(tiny_config, *options, flags=("--resume",)) == 0
    init = LabelFile.read(folder / "rounds/init/labels.json")
    assert init.tiles == Ledger.open(tmp_path / "first").labels() and "unknown" in init.classes
    before = json.loads((folder / "rounds/000/metrics.json").read_text())
    assert before["flags"] == ["not evaluated: the test set has no annotations"] and "bbox" not in before
    answer(test, tested)
    assert al("import", folder, label(folder / "rounds/000/query/batch.json", truth)).returncode == 0
    assert train(tiny_config, *options, flags=("--resume",)) == 0
    after = json.loads((folder / "rounds/001/metrics.json").read_text())
    assert after["test_record"] == sha256_file(tmp_path / "test/rounds/init/commit.json")
    assert after["bbox"]["AP50-tumor"] >= 0 and verify(folder) == []


def _test_nuclei(config):
    from osal_detectron2.engine.fronts import read_config
    from osal_detectron2.engine.plan import load_data

    records = [r for r in load_data(read_config(str(config), []))[1] if r["annotations"]]
    return {r["image_key"]: [(a["bbox"], a["category_name"]) for a in r["annotations"]] for r in records}


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


class Played:
    """A scorer with made-up detections, for one tile: (box xyxy, class, score) of each detector."""

    def __init__(self, target, auxiliary=None, *, auxiliary_classes=2):
        self.tables = {"target": target, "auxiliary": auxiliary}
        heads = SimpleNamespace(num_classes=auxiliary_classes)
        self.detectors = SimpleNamespace(auxiliary=auxiliary and SimpleNamespace(roi_heads=heads))

    def run(self, request: Pass):
        rows = self.tables[request.detector]
        columns = zip(*rows) if rows else ((), (), ())
        return {"a": dict(zip(("boxes", "classes", "scores"), map(np.array, columns)))}


def drafts(scorer, **options):
    known = {"known_classes": ["tumor", "lymphocyte"], "unknown_class": "unknown", "score_thresh": 0.3}
    row = pre_annotations(scorer, ["a"], **{**known, **options})["a"]
    return [
        (name, box, round(score, 2)) for name, box, score in zip(row["classes"], row["boxes"], row["scores"])
    ]


def test_drafts_are_one_box_a_nucleus_from_the_score_on():
    target = [
        ([0, 0, 10, 10], 0, 0.8),
        ([1, 0, 11, 10], 1, 0.9),  # the same nucleus, more likely a lymphocyte
        ([30, 0, 40, 10], 0, 0.29),  # too unsure
        ([60, 0, 70, 10], 0, 0.3),
    ]
    assert drafts(Played(target)) == [("lymphocyte", [1, 0, 10, 10], 0.9), ("tumor", [60, 0, 10, 10], 0.3)]
    assert len(drafts(Played(target), score_thresh=0.0)) == 3 and drafts(Played([])) == []


@pytest.mark.parametrize("classes", [2, 3])
def test_the_auxiliary_adds_unknown_nuclei_where_the_target_has_none(classes):
    target = [([0, 0, 10, 10], 0, 0.4)]
    auxiliary = [
        ([1, 0, 11, 10], classes - 1, 0.99),  # the target's nucleus: the target's word counts
        ([30, 0, 40, 10], classes - 1, 0.7),
        ([32, 0, 42, 10], classes - 1, 0.6),
        ([60, 0, 70, 10], 0, 0.9),  # known, but not which: no draft
        ([90, 0, 95, 10], classes - 1, 0.2),
    ]
    found = drafts(Played(target, auxiliary, auxiliary_classes=classes), unknown_class="debris")
    assert found == [("tumor", [0, 0, 10, 10], 0.4), ("debris", [30, 0, 10, 10], 0.7)]


def test_what_an_unknown_nucleus_is_called():
    assert unknown_class(["tumor"], ["tumor", "debris"]) == "debris"
    assert unknown_class(["tumor"], ["tumor", "debris", "mast"]) == "unknown"
    assert unknown_class(["tumor"], ["tumor"]) == "unknown"


def test_an_oracle_of_one_s_own_is_asked_by_its_name(tiny_config, tmp_path, capsys):
    @register
    class Crowd(Oracle):
        """Answers with what the data hold, under a name of its own; the first time it needs a night."""

        name = "crowd"
        asked: list = []

        def answer(self, question):
            self.asked.append((question.round_index, len(question.records)))
            if len(self.asked) == 1:
                return Pending("come back tomorrow")
            found = simulated.label(self.records, question.keys, class_names=self.class_names)
            tiles = {key: replace(tile, annotator="crowd") for key, tile in found.items()}
            return LabelFile(classes=self.class_names, tiles=tiles)

    options = ("OUTPUT_DIR", tmp_path / "run", "OSAL.ORACLE.NAME", "crowd", "OSAL.BUDGET.NUM_QUERIES", 0)
    assert train(tiny_config, *options, "OSAL.SCHEDULE.MIN_ITERS", 1) == 0
    said = capsys.readouterr()
    assert said.out.count("come back tomorrow") == 1
    assert ", lr " not in said.out + said.err, "nothing was trained"
    assert train(tiny_config, *options, "OSAL.SCHEDULE.MIN_ITERS", 1, flags=("--resume",)) == 0
    assert Crowd.asked == [("init", 4)] * 2
    labels = LabelFile.read(tmp_path / "run/rounds/init/labels.json").tiles
    assert {tile.annotator for tile in labels.values()} == {"crowd"}
    assert train(tiny_config, *options, "OSAL.ORACLE.NAME", "nobody") == 1
    assert "'nobody' is not one of crowd, human, imperfect, simulated" in capsys.readouterr().err
