"""A run without its training: data, plan, strategy and ledger, and what its rounds ask for.

Everything is an explicit argument, so a run can come from a YAML config (`Session.from_config`), from a LazyConfig
(engine/lazy.py) or from a script. Any trainer takes part by `Session.hook`.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier

from ..core.annotation_cost import AnnotationCost
from ..core.ledger import Ledger
from ..core.run_config import CONFIG, OWN, write_config
from ..core.store import write_bytes
from ..data.mapper import TileMapper, mapper_from_config
from ..dist import on_main
from ..evaluation.gallery import gallery_for_round
from ..evaluation.open_set_coco import OpenSetCOCOEvaluator
from ..evaluation.report import write_report
from ..modeling.detectors import Detectors
from ..oracles import get_oracle
from ..report.run_page import RunPage
from ..scoring.pool import PoolScorer
from .checkpoint import AtomicCheckpointer
from .evaluate import evaluate_detector
from .fingerprint import matching_config
from .hooks import ActiveLearningHook
from .plan import Plan, build_plan
from .recipe import recipe
from .resolve import resolve, with_detectors_of, with_new_names
from .round_batches import RoundBatches
from .round_lr import RoundLR
from .round_steps import RoundSteps
from .run_record import facts_of, find_ledger
from .self_training import SelfTraining


class Session:
    """See the module. It touches no file before `open`, which finds the run, and writes none before `begin`.

    Args:
        plan: data, classes, budget and strategy.
        osal: the node OSAL as `add_osal_config` makes it.
        output_dir: the run.
        config: flat settings that a resumed run must not change.
        make_mapper: (train=bool, with_labels=bool) -> TileMapper.
        batch_size: tiles of a training step, over all processes. num_workers: of each loader.
        max_dets: detections of a tile that count in the evaluation.
        front: what starts the run (core/run_config.py). config_text: makes the text of the resolved config, for the
            tools that read a run; without it they cannot build the run's detector.
    """

    def __init__(
        self,
        plan: Plan,
        osal: CfgNode,
        *,
        output_dir: str,
        config: Mapping,
        make_mapper: Callable[..., TileMapper],
        batch_size: int,
        num_workers: int = 0,
        max_dets: int = 100,
        front: str = OWN,
        config_text: Callable[[], str] | None = None,
    ) -> None:
        self.logger = logging.getLogger(__name__)
        self.plan, self.osal, self.config = plan, osal, config
        self.make_mapper, self.batch_size, self.num_workers = make_mapper, batch_size, num_workers
        self.max_dets, self.read_only, self.config_text = max_dets, False, config_text
        self.output_dir, self._begun, self._schedulers = Path(output_dir), False, []
        self._facts = facts_of(plan, osal, config=config, front=front)
        oracle = get_oracle(osal.ORACLE.NAME)(
            records=plan.train,
            known_classes=plan.known_classes,
            class_names=plan.class_names,
            init_keys=plan.init_keys,
            settings=osal.ORACLE,
            seed=osal.SEED,
        )
        self.steps = RoundSteps(
            plan=plan,
            oracle=oracle,
            cost=AnnotationCost.of_settings(osal.ORACLE),
            make_scorer=self.make_scorer,
            evaluate=self.evaluate,
            seed=osal.SEED,
            box_set={k.lower(): v for k, v in osal.SCORING.items() if k != "BATCH_SIZE"},
            refit=osal.PROTOTYPE.REFIT,
            gallery_tiles=osal.EVAL.GALLERY_TILES,
            draft_score=osal.ORACLE.DRAFT_SCORE,
            report=self._report,
        )

    @classmethod
    def from_config(
        cls, cfg: CfgNode, *, resume: bool = False, read_only: bool = False, front: str = OWN
    ) -> "Session":
        """The session that a config with `add_osal_config` describes, opened.

        It then stands in `cfg`, too, what follows from data and strategy (classes, iterations, detectors): build the
        model after it.
        """
        current = with_new_names(cfg)
        plan = build_plan(current)
        resolved = resolve(current, plan)
        session = cls(
            plan,
            resolved.OSAL,
            output_dir=resolved.OUTPUT_DIR,
            config=matching_config(resolved),
            make_mapper=partial(
                mapper_from_config, resolved, cache={} if resolved.OSAL.DATA.CACHE_IMAGES else None
            ),
            batch_size=resolved.SOLVER.IMS_PER_BATCH,
            num_workers=resolved.DATALOADER.NUM_WORKERS,
            max_dets=resolved.TEST.DETECTIONS_PER_IMAGE,
            front=front,
            config_text=resolved.dump,
        )
        session.open(resume=resume, read_only=read_only)
        if read_only and (trained := session.header()):
            resolved = with_detectors_of(resolved, trained["config"])
        _overwrite(cfg, resolved)
        return session

    def open(self, *, resume: bool = False, read_only: bool = False) -> None:
        """Find the run in the folder and check config and data against it. Reads only; collective.

        resume: allow a run that is there already. read_only: write nothing later either, for evaluation and previews.
        Raises LedgerError for a run that is there without `resume`, or that was started with another config or data.
        """
        self.read_only = read_only
        self.steps.ledger = on_main(
            find_ledger,
            self.output_dir,
            facts=self._facts,
            node=self.plan.strategy.node,
            resume=resume,
            read_only=read_only,
        )

    @property
    def schedule(self):
        """Labelled tiles and iterations of each round; `schedule.max_iter` is the length of the whole training."""
        return self.plan.schedule

    def header(self) -> dict | None:
        """What the run was started with; None before it has begun."""
        return on_main(lambda: self.steps.ledger.header if self.steps.ledger else None)

    def begin(self) -> None:
        """Write to the run folder from here on: begin the run, unless it is there. Collective; again changes nothing.

        The hook calls it when all that may be refused has been looked at.
        """
        if not self._begun:
            on_main(self._begin)
            for scheduler in self._schedulers:  # at the end of a plan that was shorter it stands elsewhere
                for group, lr in zip(scheduler.optimizer.param_groups, scheduler.get_lr()):
                    group["lr"] = lr
        self._begun = True

    def _begin(self) -> None:
        if self.steps.ledger is None:
            self.steps.ledger = Ledger.create(self.output_dir, **self._facts)
        self.steps.ledger.extend(plan=self.schedule.labelled, queries=self.osal.BUDGET.NUM_QUERIES)
        if self.config_text is not None:
            write_config(self.output_dir, self.config_text())
        else:
            write_bytes(self.output_dir / CONFIG, json.dumps(dict(self.config), indent=1).encode())

    # ---- for a trainer ----------------------------------------------------------------------------------
    def hook(
        self, model: torch.nn.Module, checkpointer: AtomicCheckpointer, *, batches_per_iteration: int = 1
    ) -> ActiveLearningHook:
        """The hook that runs the rounds in the trainer of `model`.

        A step that accumulates gradients draws `batches_per_iteration` batches; together they have `batch_size` tiles.
        """
        schedule, semi = self.osal.SCHEDULE, self.osal.SEMI
        self.steps.name_unknown = Detectors(model).num_unknown > 1
        self_training = None
        if semi.ENABLED:
            image_format = self.make_mapper(train=True, with_labels=False).image_format
            self_training = SelfTraining(
                model, checkpointer, settings=semi, image_format=image_format, seed=self.osal.SEED
            )
        return ActiveLearningHook(
            self.steps,
            checkpointer=checkpointer,
            make_loader=RoundBatches(
                model,
                plan=self.plan,
                pool_records=self.steps.pool_records,
                make_mapper=self.make_mapper,
                seed=self.osal.SEED,
                batch_size=self.batch_size,
                pool_tiles=semi.POOL_TILES,
                num_workers=self.num_workers,
                batches_per_iteration=batches_per_iteration,
                self_training=self_training,
            ),
            batches_per_iteration=batches_per_iteration,
            seed=self.osal.SEED,
            weights_per_round=schedule.WEIGHTS_PER_ROUND,
            keep_rounds=schedule.KEEP_ROUNDS,
            recipe=lambda ended: self.recipe(ended, self.steps.training_records()),
            begin=self.begin,
            self_training=self_training,
        )

    def lr_scheduler(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        gamma: float = 0.1,
        warmup_iters: int = 0,
        warmup_factor: float = 0.001,
    ) -> LRMultiplier:
        """A learning rate that restarts each round as OSAL.SCHEDULE.LR and LR_STEPS say (see `RoundLR`)."""
        multiplier = RoundLR(
            self.schedule,
            shape=self.osal.SCHEDULE.LR,
            steps=self.osal.SCHEDULE.LR_STEPS,
            gamma=gamma,
            warmup_iters=warmup_iters,
            warmup_factor=warmup_factor,
        )
        self._schedulers.append(LRMultiplier(optimizer, multiplier, max_iter=self.schedule.max_iter))
        return self._schedulers[-1]

    # ---- parts that the rounds ask for ------------------------------------------------------------------
    def recipe(self, round_index: int, records: Sequence[dict]) -> dict:
        """What the detector of a round follows from, if it is trained on these records."""
        return recipe(self.config, round_index=round_index, records=records)

    def make_scorer(self, model: torch.nn.Module, records: Mapping[str, dict]) -> PoolScorer:
        """Answers what strategies ask of `model` about `records`."""
        return PoolScorer(
            model,
            records,
            mapper=self.make_mapper(train=False, with_labels=False),
            labelled_mapper=self.make_mapper(train=False, with_labels=True),
            batch_size=self.osal.SCORING.BATCH_SIZE,
            num_workers=self.num_workers,
        )

    def evaluate(self, model: torch.nn.Module) -> dict:
        """Metrics of the target detector on the test set; where nothing is labelled there, only a flag. Collective."""
        make_evaluator = partial(
            OpenSetCOCOEvaluator,
            known_classes=self.plan.known_classes,
            max_dets=self.max_dets,
            unknown=self.osal.EVAL.UNKNOWN,
            aose_score_thresh=self.osal.EVAL.AOSE_SCORE_THRESH,
        )
        return evaluate_detector(
            model,
            self.plan.test,
            self.make_mapper(train=False, with_labels=False),
            make_evaluator,
            batch_size=self.osal.SCORING.BATCH_SIZE,
            num_workers=self.num_workers,
            record=self.osal.DATA.TEST_RECORD,
            known_classes=self.plan.known_classes,
        )

    def _report(self, folder, round_index) -> None:
        tiles = {r["image_key"]: r for r in self.plan.train}
        write_report(folder, self.steps.cost, curves=self.osal.EVAL.CURVES)
        if round_index != "init" and self.osal.EVAL.GALLERY_TILES > 0:
            gallery_for_round(folder, round_index, tiles, max_tiles=self.osal.EVAL.GALLERY_TILES)
        if self.osal.EVAL.CURVES:
            files = {key: record["file_name"] for key, record in tiles.items()}
            RunPage(folder, self.steps.cost, files=files).write()


def _overwrite(cfg: CfgNode, resolved: CfgNode) -> None:
    """What the caller of `Session.from_config` builds a model from; a frozen config stays frozen."""
    frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.clear()
    cfg.update(resolved)
    if frozen:
        cfg.freeze()
