"""The steps of one round: evaluate, query, annotate, commit. Each is skipped where its result is there.

Nothing here trains or knows a trainer: the hook calls these steps at a boundary, and so can anybody else. Every method
is collective: all ranks call it, rank 0 writes.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from ..core import round_files
from ..core.annotation_cost import AnnotationCost
from ..core.errors import OSALError
from ..core.labels import LabelFile, TileLabels
from ..core.ledger import Ledger
from ..data.labelled import labelled_records
from ..dist import on_main
from ..evaluation.open_set_check import query_warning
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
from .from_config import Plan

Round = int | str


class RoundSteps:
    """See the module.

    Args:
        ledger: opened on rank 0, None on the other ranks and before the run has begun.
        plan: data, classes, schedule, budget and strategy.
        oracle: who answers; asked on rank 0.
        cost: what labelling costs.
        make_scorer: model -> PoolScorer over given records (image key -> record).
        evaluate: model -> metrics (evaluation/open_set_coco.py), collective.
        seed: of the run.
        score_thresh: target detections below it take no part in what a strategy computes.
        refit: refit the prototypes before a query.
        gallery_tiles: tiles of a query whose detections are kept for its pictures.
        draft_score: detections from this score on are the drafts that people get.
        report: called with the run folder and the round after each commit, on rank 0.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | None,
        plan: Plan,
        oracle: Oracle,
        cost: AnnotationCost,
        make_scorer: Callable[[torch.nn.Module, Mapping[str, dict]], PoolScorer],
        evaluate: Callable[[torch.nn.Module], dict],
        seed: int = 0,
        score_thresh: float = 0.05,
        refit: bool = True,
        gallery_tiles: int = 0,
        draft_score: float = 0.3,
        report: Callable[[Path, Round], None] | None = None,
    ) -> None:
        self.ledger, self.plan, self.oracle, self.cost = ledger, plan, oracle, cost
        self.schedule, self.strategy = plan.schedule, plan.strategy
        self.records = {r["image_key"]: r for r in plan.train}
        self.known_classes, self.class_names = tuple(plan.known_classes), tuple(plan.class_names)
        self.make_scorer, self.evaluate_model = make_scorer, evaluate
        self.seed, self.refit, self.score_thresh = seed, refit, score_thresh
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

    def _records_with(self, labels: Mapping[str, TileLabels]) -> list[dict]:
        return labelled_records(self.records, labels, known_classes=self.known_classes)

    def context(self, round_index: int) -> QueryContext:
        """What the strategy of this round may see."""

        def read() -> QueryContext:
            labels = self.ledger.labels()
            return QueryContext(
                pool=tuple(self.ledger.pool_keys()),
                budget=self.plan.query_tiles,
                seed=self.seed,
                round_index=round_index,
                labelled={k: Counter(t.classes) for k, t in sorted(labels.items()) if t.state != "rejected"},
                known_classes=self.known_classes,
                score_thresh=self.score_thresh,
            )

        return on_main(read)

    # ---- the initial set --------------------------------------------------------------------------------
    def initial_selection(self) -> Selection:
        """Round 'init': the tiles of INIT_FILE, or a draw."""
        size, given = self.schedule.labelled[0], self.plan.init_keys
        return initial_set(self.records, size=size, seed=self.seed, given=given)

    def initialize(self) -> None:
        """Select, label and commit the initial set, unless it is committed."""
        if on_main(lambda: self.ledger.is_committed("init")):
            return
        if on_main(lambda: self.ledger.selection("init")) is None:
            on_main(self._write_selection, "init", self.initial_selection())
        self.annotate("init", model=None)
        self.commit("init")

    # ---- the steps at a boundary ------------------------------------------------------------------------
    def evaluate(self, round_index: int, model: torch.nn.Module, *, iteration: int) -> dict:
        """rounds/r/metrics.json: the target detector on the test set; no "bbox" and "open_set" without one."""
        done = on_main(lambda: round_files.read_metrics(self.ledger.round_dir(round_index)))
        if done is not None:
            return done
        with self._timed(round_index, "evaluate"):
            results = self.evaluate_model(model)

        def write() -> dict:
            labelled = len(self.ledger.labelled_keys())
            facts = {
                "round": round_index,
                "iteration": iteration,
                "labelled_tiles": labelled,
                "labelled_fraction": labelled / len(self.records),
            }
            return round_files.write_metrics(self.ledger.round_dir(round_index), {**facts, **results})

        return on_main(write)

    def preview(self, round_index: int, model: torch.nn.Module) -> Selection:
        """What the query of this round would select with this model. Writes nothing."""
        return self._select(round_index, model).selection

    def _select(self, round_index: int, model: torch.nn.Module, *, shown: int = 0) -> Answer:
        return answer_query(
            self.strategy,
            self.context(round_index),
            self.make_scorer(model, self._scorable()),
            labelled=on_main(lambda: self.ledger.labelled_keys()),
            refit=self.refit,
            shown=shown,
        )

    def query(self, round_index: int, model: torch.nn.Module) -> None:
        """rounds/r/scores.npz and selection.json."""
        if on_main(lambda: self.ledger.selection(round_index)) is not None:
            return
        with self._timed(round_index, "query"):
            answer = self._select(round_index, model, shown=self.gallery_tiles)
        selection = answer.selection

        def write() -> None:
            folder, pool = self.ledger.round_dir(round_index), self.ledger.pool_keys()
            round_files.record_timing(folder, passes=answer.passes)
            round_files.write_scores(folder, selection.scores, pool=pool, selected=selection.selected)
            round_files.write_detections(folder, answer.found, score_thresh=SCORE_THRESH)
            self._write_selection(round_index, selection)

        on_main(write)
        if warning := on_main(lambda: query_warning(self.ledger.folder, round_index)):
            self.logger.warning(warning)

    def annotate(self, round_index: Round, model: torch.nn.Module | None) -> None:
        """rounds/r/labels.json: the oracle's answer. Raises AwaitingLabels where there is none yet."""
        path = on_main(lambda: self.ledger.round_dir(round_index) / "labels.json")
        if on_main(path.is_file):
            return
        drafts = {}
        if model is not None and on_main(lambda: self.oracle.wants_drafts(self._question(round_index))):
            drafts = pre_annotations(
                self.make_scorer(model, self._scorable()),
                on_main(lambda: self.ledger.selection(round_index)["selected"]),
                known_classes=self.known_classes,
                unknown_class=unknown_class(self.known_classes, self.class_names),
                score_thresh=self.draft_score,
            )

        def ask() -> str | None:
            answer = self.oracle.answer(self._question(round_index, drafts))
            if isinstance(answer, Pending):
                return answer.message
            if not path.is_file():  # what people import is there already
                answer.write(path)
            return None

        if message := on_main(ask):
            await_labels(message)

    def commit(self, round_index: Round) -> None:
        """rounds/r/commit.json: the point of truth; then the report."""

        def write() -> None:
            folder = self.ledger.round_dir(round_index)
            selected = self.ledger.selection(round_index)["selected"]
            labels = LabelFile.read(folder / "labels.json") if selected else LabelFile(self.class_names, {})
            self.ledger.commit(round_index, selected=selected, labels=labels.tiles, classes=labels.classes)

        on_main(write)
        on_main(self._report, round_index)

    def finish_round(self, round_index: int, model: torch.nn.Module, *, iteration: int) -> dict:
        """All of the above, in order; the last round has nothing to query. Returns the metrics."""
        metrics = self.evaluate(round_index, model, iteration=iteration)
        if on_main(lambda: self.ledger.is_committed(round_index)):
            on_main(self._report, round_index)  # a kill may have come between the commit and its pictures
            return metrics
        if round_index < self.last_round:
            self.query(round_index, model)
            self.annotate(round_index, model)
        elif on_main(lambda: self.ledger.selection(round_index)) is None:
            on_main(self._write_selection, round_index, Selection(selected=()))
        self.commit(round_index)
        return metrics

    def add_seconds(self, round_index: Round, step: str, seconds: float) -> None:
        """Add to what a step of this round took."""
        on_main(lambda: round_files.add_seconds(self.ledger.round_dir(round_index), step, seconds))

    # ---- rank 0 only ------------------------------------------------------------------------------------
    def _report(self, round_index: Round) -> None:
        if self.report is None:
            return
        try:
            self.report(self.ledger.folder, round_index)
        except OSALError as error:  # pictures can be made again; the round is committed and training goes on
            self.logger.warning(
                "no report of round %s: %s (make it later with osal run report)", round_index, error
            )

    def _scorable(self) -> dict[str, dict]:
        """Pool tiles without their labels, and labelled tiles with the committed ones."""
        records = {k: {**r, "annotations": []} for k, r in self.records.items()}
        records.update({r["image_key"]: r for r in self.training_records()})
        return records

    def _question(self, round_index: Round, drafts: Mapping[str, dict] | None = None) -> Question:
        keys = self.ledger.selection(round_index)["selected"]
        records = [self.records[key] for key in keys]
        return Question(self.ledger, round_index, records, drafts or {}, self.name_unknown)

    def _write_selection(self, round_index: Round, selection: Selection) -> None:
        round_files.write_selection(
            self.ledger.round_dir(round_index),
            round_index=round_index,
            strategy=self.strategy.name if round_index != "init" else "initial",
            budget=self.ledger.budget(round_index),
            selected=selection.selected,
            candidates=len(selection.candidates),
            reasons=selection.reasons,
        )

    @contextmanager
    def _timed(self, round_index: Round, step: str):
        begun = time.perf_counter()
        yield
        self.add_seconds(round_index, step, time.perf_counter() - begun)
