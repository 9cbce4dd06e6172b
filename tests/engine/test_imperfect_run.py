"""A run whose annotators err: errors and times are in its record, and their skill can be read from it."""

import json

import programs
import pytest
from detectron2.config import get_cfg
from miniature import record, train

from osal_detectron2 import add_osal_config
from osal_detectron2.core.annotator import Skill
from osal_detectron2.core.labels import LabelFile
from osal_detectron2.core.store import read_json
from osal_detectron2.evaluation.learning_curve import read_curve
from osal_detectron2.oracles.pilot import truth_of

WORDS = ("OSAL.ORACLE.NAME", "imperfect", "OSAL.ORACLE.IMPERFECT.MISS", 0.3, "OSAL.ORACLE.IMPERFECT.ANNOTATORS", 2,
         "OSAL.STRATEGY", "random", "OSAL.BUDGET.NUM_QUERIES", 1, "OSAL.BUDGET.QUERY_TILES", 8)  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imperfect") / "run"
    assert train(tiny_config, "OUTPUT_DIR", folder, *WORDS) == 0
    return folder


def labels(run):
    found = {}
    for name in ("init", "000"):
        found |= LabelFile.read(run / f"rounds/{name}/labels.json").tiles
    return found


def test_the_record_has_errors_and_times_and_the_test_set_has_none(run, reference, tiles):
    said, truth = labels(run), truth_of(tiles / "annotations/random_fold1_train.json")
    assert {tile.annotator for tile in said.values()} == {"annotator-1", "annotator-2"}
    marked, there = (
        sum(len(t.boxes) for t in source.values()) for source in (said, {k: truth[k] for k in said})
    )
    assert 0.5 * there < marked < 0.95 * there
    rows = read_curve(run)
    initial = LabelFile.read(run / "rounds/init/labels.json").tiles.values()
    assert rows[0]["minutes_annotated"] == pytest.approx(sum(t.seconds for t in initial) / 60)
    assert rows[1]["minutes_annotated"] == pytest.approx(sum(t.seconds for t in said.values()) / 60)
    counts = [read_json(folder / "rounds/000/metrics.json")["counts"] for folder in (run, reference)]
    assert counts[0]["known_nuclei"] == counts[1]["known_nuclei"] > 0


def test_the_same_run_again_has_the_same_annotators_and_others_are_another_run(run, tiny_config, capsys):
    before = record(run)
    assert train("", "--resume", "OUTPUT_DIR", run) == 0 and record(run) == before
    for key, value in (("OSAL.ORACLE.IMPERFECT.MISS", 0.2), ("OSAL.ORACLE.SECONDS_PER_TILE", 99.0)):
        capsys.readouterr()
        assert train("", "--resume", "OUTPUT_DIR", run, key, value) == 1
        assert f"{key}: " in capsys.readouterr().err


def test_a_pilot_says_how_its_annotators_err_as_a_config(run, tiles, capsys):
    truth = tiles / "annotations/random_fold1_train.json"
    assert programs.osal("study", "annotators", run, "--truth", truth) == 0
    text = capsys.readouterr().out
    assert (
        "annotator-1, " in text and "against the truth, with 95 % interval" in text and "time spread" in text
    )
    words = text.split("as config: ")[1].split()
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.merge_from_list(words)
    skill = Skill.of_settings(cfg.OSAL.ORACLE.IMPERFECT)
    assert cfg.OSAL.ORACLE.NAME == "imperfect" and skill.annotators == 2
    assert 0.15 < skill.miss < 0.45 and skill.confusion < 0.2 and 0.02 < skill.jitter < 0.1
    assert programs.osal("study", "annotators", run) == 1
    assert "no tile has answers of two annotators" in capsys.readouterr().err
    other = truth.with_name("other.json")
    content = json.loads(truth.read_text())
    for image in content["images"]:
        image["file_name"] = f"not_{image['file_name']}"
    other.write_text(json.dumps(content))
    assert programs.osal("study", "annotators", run, "--truth", other) == 1
    assert "none of its tiles is in that file" in capsys.readouterr().err
