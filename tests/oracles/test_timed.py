"""What the times of a run's imports say that annotation costs."""

import pytest

from osal_detectron2.core.labels import LabelFile, TileLabels, Work
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.exchange.batch import Request, RequestedTile
from osal_detectron2.oracles.answers import Answer, Answers
from osal_detectron2.oracles.timed import describe_cost, timed_tiles
from osal_detectron2.oracles.work import work_of

KEYS = [f"tile{i}.png" for i in range(24)]


def boxes(number, *, shift=0.0):
    return [(20.0 * i + shift, 5.0, 10.0, 10.0) for i in range(number)]


def write_batch(run, *, seconds):
    """The initial batch: tile i has i nuclei, a draft on every other, half of these of the wrong class."""
    facts = {"seed": 0, "known_classes": ["a"], "config": {}, "dataset_sha256": "", "versions": {}}
    Ledger.create(run, strategy="random", pool=KEYS, plan=[24], **facts)
    tiles, events = {}, []
    for i, key in enumerate(KEYS):
        drafts = [("a" if j % 4 else "b", *box) for j, box in enumerate(boxes(i)) if j % 2 == 0]
        tiles[key] = RequestedTile(500, 500, tuple(drafts))
        labels = TileLabels("labelled" if i else "reviewed_empty", boxes(i, shift=1), ["a"] * i, "anna")
        events.append(Answer(key, labels, "f.json", seconds(work_of(drafts, labels) or Work())))
    query = run / "rounds/init/query"
    request = Request("b", "init", ("a", "b"), tiles, 15.0, 3.0)
    request.write(query)
    Answers(tuple(events)).write(query, request)
    return run


def test_the_prices_of_an_annotator_with_drafts(tmp_path):
    def seconds(work):
        return 30 + 4 * work.marked + 2 * work.confirmed + 8 * work.corrected

    run = write_batch(tmp_path / "run", seconds=seconds)
    last = LabelFile.read(run / "rounds/init/labels.json").tiles[KEYS[23]]
    assert last.work == Work(marked=11, confirmed=6, corrected=6) and last.seconds == seconds(last.work)
    assert len(timed_tiles(run)) == 24
    text = describe_cost(run)
    assert text.startswith("anna, from 24 timed tiles") and "all, from 24 timed tiles" in text
    assert text.endswith(
        "as config: OSAL.ORACLE.SECONDS_PER_TILE 30.0 OSAL.ORACLE.SECONDS_PER_NUCLEUS 4.0 "
        "OSAL.ORACLE.SECONDS_PER_CONFIRMATION 2.0 OSAL.ORACLE.SECONDS_PER_CORRECTION 8.0"
    )


def test_without_times_there_is_nothing_to_fit(tmp_path):
    run = write_batch(tmp_path / "run", seconds=lambda work: None)
    assert "no answer of this run came with a time" in describe_cost(run)
    assert LabelFile.read(run / "rounds/init/labels.json").tiles[KEYS[3]].seconds is None


@pytest.mark.parametrize(
    ("labels", "work"),
    [
        (
            TileLabels("labelled", boxes(2, shift=2), ["a", "a"]),
            Work(0, 1, 1),
        ),  # one renamed, both moved a little
        (TileLabels("labelled", boxes(3), ["a", "b", "a"]), Work(1, 2, 0)),
        (TileLabels("reviewed_empty"), Work(0, 0, 2)),
        (TileLabels("rejected"), Work()),
    ],
)
def test_what_becomes_of_drafts_is_work(labels, work):
    drafts = [("a", *boxes(1)[0]), ("b", *boxes(2)[1])]
    assert work_of(drafts, labels) == work
    assert work_of([], labels) is None
