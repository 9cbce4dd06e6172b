"""Nobody's answer is lost: several annotators, corrections, disputes and what settles them."""

import json

import pytest
from waiting_run import BATCH, export, files, put, reviewed

from osal_detectron2.commands.main import main
from osal_detectron2.core.agreement import difference
from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.core.labels import LabelFile, TileLabels
from osal_detectron2.oracles.answers import Answers
from osal_detectron2.oracles.exchange import import_batch, prefer_annotator
from osal_detectron2.oracles.progress import batch_status

EVERYTHING = {"tile0": "done", "tile1": "done", "tile2": "done"}


def labels(run):
    return LabelFile.read(run / "rounds/000/labels.json").tiles


def events(run):
    return json.loads((run / "rounds/000/query/imported.json").read_text())["events"]


def swapped(run):
    """The batch by somebody who takes every tumour for a lymphocyte and the other way round."""
    content = reviewed(run, **EVERYTHING)
    for annotation in content["annotations"]:
        annotation["category_id"] = {1: 2, 2: 1}[annotation["category_id"]]
    return content


@pytest.fixture
def two(run, tmp_path):
    """anna has answered all tiles; ben swaps all classes. Returns the report of ben's import."""
    assert import_batch(run, put(tmp_path, reviewed(run, **EVERYTHING)), annotator="anna").complete
    return import_batch(run, put(tmp_path, swapped(run)), annotator="ben")


def test_a_second_annotator_takes_nothing_away_from_the_first(run, two):
    assert not two.complete and list(two.disputes) == BATCH[:2] and two.agreed == (BATCH[2],)
    assert two.changed == () and two.pending_keys == ()
    assert (
        two.disputes[BATCH[0]]
        == "anna and ben: 0 nuclei the same, 1 lymphocyte or tumor, 1 tumor or lymphocyte"
    )
    assert "disagree" in str(two) and "osal run prefer" in str(two)
    assert batch_status(run).counts["disputed"] == 2 and not batch_status(run).complete
    assert not (run / "rounds/000/labels.json").exists(), "a disputed tile is open, and was labelled before"
    assert [(e["annotator"], e["tile"]) for e in events(run)] == [
        (a, k) for a in ("anna", "ben") for k in BATCH
    ]
    assert events(run)[0]["classes"] == ["tumor", "lymphocyte"], "the first answer is there still"


def test_a_choice_settles_disputes_one_by_one_or_all(run, two):
    assert prefer_annotator(run, "ben", [BATCH[1]]) == [BATCH[1]]
    assert not (run / "rounds/000/labels.json").exists()
    assert prefer_annotator(run, "anna") == [BATCH[0]]
    assert [labels(run)[key].annotator for key in BATCH] == ["anna", "ben", "anna"]
    assert prefer_annotator(run, "anna", [BATCH[1]]) == [BATCH[1]], "a choice can be taken back"
    assert labels(run)[BATCH[1]].annotator == "anna" and len(events(run)) == 9


def test_the_import_itself_can_choose(run, two, tmp_path):
    report = import_batch(run, put(tmp_path, swapped(run)), annotator="ben", prefer="ben", dry_run=True)
    assert report.complete and not (run / "rounds/000/labels.json").exists()
    report = import_batch(run, put(tmp_path, swapped(run)), annotator="ben", prefer="ben")
    assert report.complete and report.chosen == (BATCH[0], BATCH[1])
    assert [labels(run)[key].annotator for key in BATCH] == ["ben", "ben", "anna"]


def test_the_chosen_annotator_corrects_herself_and_a_third_does_not_open_the_tile_again(run, two, tmp_path):
    prefer_annotator(run, "anna")
    report = import_batch(run, put(tmp_path, reviewed(run, tile0="rejected")), annotator="anna")
    assert report.changed == (BATCH[0],) and "stays in the record" in str(report)
    assert labels(run)[BATCH[0]].state == "rejected" and report.complete
    assert import_batch(run, put(tmp_path, swapped(run)), annotator="carl").complete


def test_saying_the_same_again_adds_nothing(run, two, tmp_path):
    before = files(run)
    import_batch(run, put(tmp_path, swapped(run)), annotator="ben")
    assert files(run) == before


def test_a_correction_can_end_a_dispute(run, two, tmp_path):
    report = import_batch(run, put(tmp_path, reviewed(run, **EVERYTHING)), annotator="ben")
    assert report.complete and report.agreed == tuple(BATCH)
    assert {tile.annotator for tile in labels(run).values()} == {"anna"} and len(events(run)) == 8


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda run: prefer_annotator(run, "dora"), "annotators so far: anna, ben"),
        (lambda run: prefer_annotator(run, "dora", [BATCH[0]]), "answered by: anna, ben"),
        (lambda run: prefer_annotator(run, "anna", ["x.png"]), "not of the open batch"),
    ],
)
def test_a_choice_that_cannot_be(run, two, call, words):
    before = files(run)
    with pytest.raises((ConfigError, DataError), match=words):
        call(run)
    assert files(run) == before


def test_a_kill_between_record_and_labels_never_leaves_the_labels_of_before(
    run, images, two, monkeypatch, tmp_path
):
    prefer_annotator(run, "anna")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Answers, "write_labels", killed)
        prefer_annotator(run, "ben", BATCH[:2])
    assert not (run / "rounds/000/labels.json").exists()
    assert export(run, images).complete  # what the engine does on --resume
    assert [labels(run)[key].annotator for key in BATCH] == ["ben", "ben", "anna"]


def test_agreement_is_one_to_one_at_half_overlap_and_by_class():
    def tile(*boxes, names=None):
        return TileLabels("labelled", boxes, names or ["tumor"] * len(boxes))

    first = tile((0, 0, 10, 10), (20, 0, 10, 10))
    assert not difference(first, tile((20, 3, 10, 10), (0, 0, 10, 10.5))), "moved by a third, another order"
    half = difference(first, tile((0, 0, 10, 10), (20, 4, 10, 10)))
    assert (half.same, half.only) == (1, (1, 1)), "IoU 3/7"
    assert difference(first, tile((0, 0, 10, 10), (20, 0, 10, 10), (1, 1, 9, 9))).only == (0, 1), (
        "each box once"
    )
    names = difference(first, tile((0, 0, 10, 10), (20, 0, 10, 10), names=["tumor", "debris"]))
    assert dict(names.other_class) == {("tumor", "debris"): 1}
    empty = TileLabels("reviewed_empty")
    assert difference(first, empty).words("a", "b") == "a says labelled, b says reviewed_empty"
    assert not difference(empty, empty) and difference(empty, TileLabels("rejected"))


def test_the_agreement_of_a_run_is_in_words_and_in_json(run, two, capsys):
    assert main(["run", "agreement", str(run)]) == 0
    words = capsys.readouterr().out
    assert "anna and ben" in words and "lymphocyte or tumor" in words
    assert words.index(BATCH[0]) < words.index(BATCH[1]), "two nuclei differ on the first, one on the second"
    assert main(["run", "agreement", str(run), "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert (pair["f1"], pair["f1_place"], pair["tiles"]) == (0.0, 1.0, 3)
    assert pair["kappa"] == pytest.approx(-0.8), "swapped: 0 of 3 alike, by chance (2 * 1 + 1 * 2) / 9"


def test_without_a_second_answer_there_is_no_agreement_but_a_way_to_one(run, capsys):
    assert main(["run", "agreement", str(run)]) == 0 and "--annotator" in capsys.readouterr().out
