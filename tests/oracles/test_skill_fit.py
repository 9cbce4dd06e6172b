"""The skill that simulated annotators were given is found again, from the truth and from two of them."""

import math
from dataclasses import replace

import programs
import pytest
from test_imperfect import CLASSES, COST, PERFECT, TILES, annotators, answers
from waiting_run import BATCH

from osal_detectron2.core.cost_fit import TimedTile
from osal_detectron2.core.errors import DataError
from osal_detectron2.core.labels import TileLabels, Work
from osal_detectron2.exchange.batch import Request
from osal_detectron2.oracles.answers import Answer, Answers
from osal_detectron2.oracles.skill_fit import RATES, fit_skill, fit_times

TRUE = replace(PERFECT, miss=0.15, miss_small=2.5, false_marks=1.0, confusion=0.12, jitter=0.06)


def check(fit, true, **tolerances):
    for name in RATES:
        value, told = getattr(fit.skill, name), getattr(true, name)
        assert value == pytest.approx(told, **tolerances.get(name, {"rel": 0.15})), name
        assert getattr(fit.low, name) <= value <= getattr(fit.high, name)


def test_from_the_truth():
    said = answers(TRUE)
    fit = fit_skill([(TILES[k], t) for k, t in said.items()], against_truth=True, num_classes=len(CLASSES))
    check(fit, TRUE, miss_small={"rel": 0.3})
    assert (
        fit.tiles == 150 and fit.low.miss < TRUE.miss < fit.high.miss and fit.high.miss - fit.low.miss < 0.06
    )


def test_from_two_annotators_and_no_truth():
    true = replace(TRUE, false_marks=0.0)
    one, two = answers(true, annotator=0), answers(true, annotator=1)
    fit = fit_skill(
        [(one[k], two[k]) for k in one], against_truth=False, num_classes=len(CLASSES), samples=50
    )
    check(fit, true, miss_small={"rel": 0.3})
    more = replace(TRUE, false_marks=1.0)  # each false mark counts as a nucleus that the other overlooked
    one, two = answers(more, annotator=0), answers(more, annotator=1)
    fit = fit_skill([(one[k], two[k]) for k in one], against_truth=False, num_classes=len(CLASSES), samples=2)
    assert 0.03 < fit.skill.miss - true.miss < 0.1


def test_times_and_paces():
    skill = replace(PERFECT, time_spread=0.4, pace_spread=0.5, annotators=12)
    people = annotators(skill, seed=1)
    timed = [
        TimedTile(t.annotator, t.seconds, Work(marked=len(t.boxes)))
        for k in TILES
        for who in range(12)
        for t in [people.labels(k, TILES[k], width=400, height=400, annotator=who)]
    ]
    spread, pace = fit_times(timed, COST)
    assert spread == pytest.approx(0.4, rel=0.05) and pace == pytest.approx(0.5, rel=0.45)
    assert fit_times(timed[::12], COST) == (pytest.approx(0.4, rel=0.2), None)
    assert fit_times([], COST) == (None, None)
    logs = [math.log(people.pace(n)) for n in range(12)]
    mean = sum(logs) / 12
    assert pace == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in logs) / 11), rel=0.05)


def test_nothing_in_common_is_an_error_and_no_miss_is_no_miss():
    empty = TileLabels("reviewed_empty")
    with pytest.raises(DataError, match="no nucleus was marked twice"):
        fit_skill([(TILES["t0.png"], empty)], against_truth=True, num_classes=3)
    same = [(t, t) for t in list(TILES.values())[:10]]
    fit = fit_skill(same, against_truth=False, num_classes=3, samples=5)
    assert [getattr(fit.skill, name) for name in RATES] == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_two_answers_to_one_tile_are_compared_without_a_truth(run, capsys):
    """A batch that two people labelled, as it stands in a run that waits."""
    query = run / "rounds/000/query"
    request, events = Request.read(query), []
    for key in BATCH:
        boxes = [(40 * i, 10, 10 + i % 3, 12) for i in range(20)]
        for who, seen in (("anna", boxes), ("ben", boxes[:15])):
            events.append(Answer(key, TileLabels("labelled", seen, ["tumor"] * len(seen), who), seconds=60.0))
    Answers(tuple(events)).write(query, request)
    assert programs.osal("study", "annotators", run) == 0
    text = capsys.readouterr().out
    assert "3 tiles and 45 nuclei against each other" in text and "  false marks" not in text
    miss = float(text.split("miss ")[1].split()[0])
    assert miss == pytest.approx(10 / 70, abs=0.02), "of 40 and 30 marks 30 are in both: 1 - 2 * 30 / 70"
    assert "ANNOTATORS 2" in text and "time spread" in text
