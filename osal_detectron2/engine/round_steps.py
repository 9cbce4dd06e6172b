"""The steps of one round: evaluate, query, annotate, commit. Each is skipped where its result is there.

Nothing here trains or knows a trainer: the hook calls these steps at a boundary, and so can anybody else. Every method
is collective: rank 0 reads what there is of the round once, all ranks compute, and rank 0 writes what a step gave.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..core import round_files
from ..core.annotation_cost import AnnotationCost
from ..core.budget import price_in_words
from ..core.errors import OSALError
from ..core.labels import LabelFile, TileLabels
from ..core.ledger import Ledger
from ..core.round_state import RoundState
from ..data.labelled import labelled_records
from ..dist import on_main
from ..evaluation.open_set_check import query_warning
from ..modeling.detectors import Detectors
from ..oracles import Oracle, Pending, Question
from ..oracles.people import unknown_class
from ..scoring.drafts import pre_annotations
from ..scoring.found import SCORE_THRESH
from ..scoring.pool import PoolScorer
from ..scoring.query import Answer, answer_query
from ..strategies import QueryContext, Selection
from ..strategies.initial import initial_set
from .awaiting import await_labels
from .checkpoint import check_reached
from .plan import Plan
from .spending import cost_of_commit, price_of_init, purse_of

Round = int | str


class RoundSteps:
    """See the module.

    Args:
        plan: data, classes, schedule, budget and strategy.
        oracle: who answers; asked on rank 0.
        cost: what labelling costs.
        make_scorer: model -> PoolScorer over given records (image key -> record).
        evaluate: model -> metrics (evaluation/open_set_coco.py), collective.
        seed: of the run.
        box_set: which target detections take part in what a strategy computes, fields of `QueryContext`.
        refit: refit the prototypes before a query.
        gallery_tiles: tiles of a query whose detections are kept for its pictures.
        draft_score: detections from this score on are the drafts that people get.
        report: called with the run folder and the round after each commit, on rank 0.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        oracle: Oracle,
        cost: AnnotationCost,
        make_scorer: Callable[[torch.nn.Module, Mapping[str, dict]], PoolScorer],
        evaluate: Callable[[torch.nn.Module], dict],
        seed: int = 0,
        box_set: Mapping[str, float | bool] | None = None,
        refit: bool = True,
        gallery_tiles: int = 0,
        draft_score: float = 0.3,
        report: Callable[[Path, Round], None] | None = None,
    ) -> None:
        self.ledger: Ledger | None = None  # of rank 0, once the run has begun
        self.plan, self.oracle, self.cost = plan, oracle, cost
        self.schedule, self.strategy = plan.schedule, plan.strategy
        self.records = {r["image_key"]: r for r in plan.train}
        self.known_classes, self.class_names = tuple(plan.known_classes), tuple(plan.class_names)
        self.make_scorer, self.evaluate_model = make_scorer, evaluate
        self.seed, self.refit, self.box_set = seed, refit, box_set or {}
        self.gallery_tiles, self.draft_score, self.report = gallery_tiles, draft_score, report
        self.name_unknown = False  # set for a model that tells the unknown classes apart
        self.logger = logging.getLogger(__name__)

    # ---- what is known so far ---------------------------------------------------------------------------
    @property
    def last_round(self) -> int:
        return self.schedule.num_rounds - 1

    def check_reached(self, completed: int) -> None:
        """`checkpoint.check_reached` of this run."""
        on_main(lambda: check_reached(self.ledger, self.schedule, completed=completed))

    def state(self, round_index: Round) -> RoundState:
        """What is on disk of this round."""
        return on_main(lambda: RoundState.read(self.ledger, round_index))

    def labels(self) -> dict[str, TileLabels]:
        """Labels of every committed tile."""
        return on_main(lambda: self.ledger.labels())

    def training_records(self) -> list[dict]:
        """The labelled tiles as records, made from the committed labels and nothing else; sorted by key."""
        return self._records_with(self.labels())

    def pool_records(self) -> list[dict]:
        """The tiles that nobody has labelled, without their labels; sorted by key."""
        keys = on_main(lambda: sorted(self.ledger.pool_keys()))
        return [{**self.records[key], "annotations": []} for key in keys]

    def initial_records(self) -> list[dict] | None:
        """The records of round 0, known before the run begins; None where people have to label them first."""
        labels = self.oracle.at_once(self.initial_selection().selected)
        return None if labels is None else self._records_with(labels)

    def initial_selection(self) -> Selection:
        """Round 'init': the tiles of INIT_FILE, or a draw."""
        size, given = self.schedule.labelled[0], self.plan.init_keys
        selection = initial_set(self.records, size=size, seed=self.seed, given=given)
        return replace(selection, price=price_of_init(self.plan.budget, len(selection.selected)))

    def preview(self, round_index: int, model: torch.nn.Module) -> Selection:
        """What the query of this round would select with this model. Writes nothing."""
        return self._answer(self.state(round_index), model).selection

    # ---- the two passages of a run ----------------------------------------------------------------------
    def initialize(self) -> None:
        """Select, label and commit the initial set, unless it is committed. Raises AwaitingLabels."""
        state = self.state("init")
        if state.committed:
            return
        if (selected := state.selected) is None:
            selection = self.initial_selection()
            selected = selection.selected
            on_main(self._write_selection, "init", selection)
        self._annotate(state, selected, model=None)

    def finish_round(self, round_index: int, model: torch.nn.Module, *, iteration: int) -> Mapping:
        """Evaluate, query, annotate and commit; the last round queries nothing. Returns the metrics.

        Raises AwaitingLabels where people have to label first.
        """
        state = self.state(round_index)
        metrics = state.metrics or self._evaluate(state, model, iteration=iteration)
        if state.committed:
            on_main(self._report, round_index)  # a kill may have come between the commit and its pictures
            return metrics
        if (selected := state.selected) is None:
            selected = self._query(state, model)
        self._annotate(state, selected, model)
        return metrics

    def add_seconds(self, round_index: Round, step: str, seconds: float) -> None:
        """Add to what a step of this round took."""
        on_main(lambda: round_files.add_seconds(self.ledger.round_dir(round_index), step, seconds))

    def timing(self, round_index: Round) -> dict:
        """Seconds of each step of this round so far; for rank 0."""
        return round_files.read_timing(self.ledger.round_dir(round_index))

    # ---- the steps: all ranks compute, then rank 0 writes -----------------------------------------------
    def _evaluate(self, state: RoundState, model: torch.nn.Module, *, iteration: int) -> dict:
        """metrics.json: the target detector on the test set; no "bbox" and "open_set" without one."""
        begun = time.perf_counter()
        results = self.evaluate_model(model)
        seconds, labelled = time.perf_counter() - begun, len(state.labelled)
        facts = {
            "round": state.round_index,
            "iteration": iteration,
            "labelled_tiles": labelled,
            "labelled_fraction": labelled / len(self.records),
        }

        def write() -> dict:
            folder = self.ledger.round_dir(state.round_index)
            round_files.add_seconds(folder, "evaluate", seconds)
            return round_files.write_metrics(folder, {**facts, **results})

        return on_main(write)

    def _query(self, state: RoundState, model: torch.nn.Module) -> tuple[str, ...]:
        """scores.npz, detections.json and selection.json; nothing is selected in the last round."""
        if state.round_index == self.last_round or not state.pool:
            on_main(self._write_selection, state.round_index, Selection(selected=()))
            return ()
        begun = time.perf_counter()
        answer = self._answer(state, model, shown=self.gallery_tiles)
        seconds, selection = time.perf_counter() - begun, answer.selection

        def write() -> str | None:
            folder = self.ledger.round_dir(state.round_index)
            round_files.add_seconds(folder, "query", seconds)
            round_files.record_timing(folder, passes=answer.passes)
            round_files.write_scores(folder, selection.scores, pool=state.pool, selected=selection.selected)
            round_files.write_detections(folder, answer.found, score_thresh=SCORE_THRESH)
            self._write_selection(state.round_index, selection)
            return query_warning(self.ledger.folder, state.round_index)

        if warning := on_main(write):
            self.logger.warning(warning)
        return selection.selected

    def _annotate(self, state: RoundState, selected: Sequence[str], model: torch.nn.Module | None) -> None:
        """labels.json, the oracle's answer; then commit.json, the point of truth, and the report."""
        question = Question(
            self.ledger,
            state.round_index,
            [self.records[key] for key in selected],
            name_unknown=self.name_unknown,
        )
        asked = bool(selected) and not state.answered
        if asked and model is not None and on_main(lambda: self.oracle.wants_drafts(question)):
            drafts = pre_annotations(
                self.make_scorer(model, self._scorable(state)),
                selected,
                known_classes=self.known_classes,
                unknown_class=unknown_class(self.known_classes, self.class_names),
                score_thresh=self.draft_score,
            )
            question = replace(question, drafts=drafts)

        def write() -> str | None:
            path = self.ledger.round_dir(state.round_index) / "labels.json"
            if asked:
                answer = self.oracle.answer(question)
                if isinstance(answer, Pending):
                    return answer.message
                if not path.is_file():  # what people import is there already
                    answer.write(path)
            labels = LabelFile.read(path) if selected else LabelFile(self.class_names, {})
            asked_for = self.ledger.selection(state.round_index) or {}
            cost = cost_of_commit(self.plan.budget, asked_for, labels.tiles) if selected else None
            self.ledger.commit(
                state.round_index, selected=selected, labels=labels.tiles, classes=labels.classes, cost=cost
            )
            if cost is not None:
                self.logger.info("round %s: %s", state.round_index, price_in_words(cost))
            self._report(state.round_index)
            return None

        if message := on_main(write):
            await_labels(message)

    # ---- inside -----------------------------------------------------------------------------------------
    def _answer(self, state: RoundState, model: torch.nn.Module, *, shown: int = 0) -> Answer:
        """The strategy's choice, from what it may see."""
        context = QueryContext(
            pool=state.pool,
            budget=self.plan.query_tiles,
            seed=self.seed,
            round_index=state.round_index,
            labelled={key: Counter(state.labels[key].classes) for key in sorted(state.labelled)},
            known_classes=self.known_classes,
            groups={key: record.get("group", key) for key, record in self.records.items()},
            **self.box_set,
        )
        scorer = self.make_scorer(model, self._scorable(state))
        two = Detectors(model).auxiliary is not None
        at = (self.plan.budget, state.round_index)
        purse = on_main(lambda: purse_of(self.ledger, *at, two_detectors=two, score=self.draft_score))
        options = {"refit": self.refit, "shown": shown, "purse": purse}
        return answer_query(self.strategy, context, scorer, labelled=state.labelled, **options)

    def _records_with(self, labels: Mapping[str, TileLabels]) -> list[dict]:
        return labelled_records(self.records, labels, known_classes=self.known_classes)

    def _scorable(self, state: RoundState) -> dict[str, dict]:
        """Pool tiles without their labels, and labelled tiles with the committed ones."""
        records = {k: {**r, "annotations": []} for k, r in self.records.items()}
        records.update({r["image_key"]: r for r in self._records_with(state.labels)})
        return records

    def _write_selection(self, round_index: Round, selection: Selection) -> None:
        if selection.price is not None:
            self.logger.info("query of round %s: %s", round_index, price_in_words(selection.price))
        round_files.write_selection(
            self.ledger.round_dir(round_index),
            round_index=round_index,
            strategy=self.strategy.name if round_index != "init" else "initial",
            budget=self.ledger.budget(round_index),
            selected=selection.selected,
            candidates=len(selection.candidates),
            reasons=selection.reasons,
            cost=selection.price,
        )

    def _report(self, round_index: Round) -> None:
        if self.report is None:
            return
        try:
            self.report(self.ledger.folder, round_index)
        except OSALError as error:  # pictures can be made again; the round is committed and training goes on
            self.logger.warning(
                "no report of round %s: %s (make it later with osal run report)", round_index, error
            )
