"""Active learning as one Detectron2 training, from a config."""

import json
import logging
import os
import weakref

import torch
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..core.errors import OSALError
from ..core.store import write_bytes
from ..data.mapper import mapper_from_config
from ..data.round_loader import build_round_loader, seeded
from ..dist import on_main
from ..evaluation.gallery import gallery_for_round
from ..evaluation.open_set_coco import OpenSetCOCOEvaluator
from ..evaluation.report import write_report
from ..modeling.optimizer import build_osal_optimizer
from ..oracles.simulated import SimulatedOracle
from ..scoring.forward import inference_batches
from ..scoring.pool import PoolScorer
from . import from_config as parts
from .checkpoint import AtomicCheckpointer
from .hooks import BOUNDARY, INITIAL_WEIGHTS, ActiveLearningHook
from .round_0 import check_recipe, recipe
from .round_lr import RoundLR
from .round_steps import RoundSteps

_SHORT = {"osal_detectron2": "osal", "detectron2": "d2"}


class ActiveLearningTrainer(DefaultTrainer):
    """DefaultTrainer whose data, schedule and hooks come from `cfg.OSAL`.

    Like `DefaultTrainer`, it is a default: a project with a trainer of its own registers an ActiveLearningHook instead.

    Args:
        cfg: with add_osal_config. Not changed; `self.cfg` is the resolved copy.
        resume: allow a run that is already in OUTPUT_DIR. read_only: write nothing, for evaluation and previews.
    """

    def __init__(self, cfg, *, resume: bool = False, read_only: bool = False) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's own __init__ cannot wrap a CPU model in DDP
        cfg = cfg.clone()
        cfg.defrost()
        train, test, known, class_names = parts.load_data(cfg)
        init_keys = parts.initial_keys(cfg, train)
        schedule, query_tiles = parts.build_schedule(cfg, total=len(train), init=len(init_keys))
        strategy = parts.build_strategy(cfg)
        parts.resolve_config(cfg, num_known=len(known), schedule=schedule, strategy=strategy)
        self.cfg, self.schedule, self.test_records, self.known_classes = cfg, schedule, test, known
        self._image_cache: dict | None = {} if cfg.OSAL.DATA.CACHE_IMAGES else None
        human = cfg.OSAL.ORACLE.NAME == "human"
        ledger = on_main(
            lambda: parts.open_ledger(
                cfg,
                resume=resume,
                read_only=read_only,
                train_nuclei=None if human else parts.count_nuclei(train, num_known=len(known)),
                strategy=strategy.name,
                seed=cfg.OSAL.SEED,
                known_classes=known,
                pool=[r["image_key"] for r in train],
                plan=schedule.labelled,
                dataset_sha256=parts.data_sha256(train, test),
                versions=parts.versions(),
            )
        )
        if read_only and (trained := on_main(lambda: ledger and ledger.header["config"])):
            # A preview with another strategy looks through the detectors that the run has.
            built = ("MODEL.", "OSAL.AUXILIARY.", "OSAL.PROTOTYPE.", "OSAL.EVIDENCE.")
            cfg.merge_from_list([w for k, v in trained.items() if k.startswith(built) for w in (k, v)])
        cfg.freeze()
        simulated = SimulatedOracle(train, class_names).label
        records = {r["image_key"]: r for r in train}

        def report(folder, round_index) -> None:
            write_report(folder)
            if round_index != "init" and cfg.OSAL.EVAL.GALLERY_TILES > 0:
                gallery_for_round(folder, round_index, records, max_tiles=cfg.OSAL.EVAL.GALLERY_TILES)

        self.steps = RoundSteps(
            ledger=ledger,
            schedule=schedule,
            strategy=strategy,
            records=train,
            known_classes=known,
            class_names=class_names,
            make_scorer=self._make_scorer,
            evaluate=self._evaluate,
            oracle=None if human else simulated,
            init_oracle=None if human and not init_keys else simulated,
            query_tiles=query_tiles,
            init_keys=init_keys,
            seed=cfg.OSAL.SEED,
            refit=cfg.OSAL.PROTOTYPE.REFIT,
            seconds_per_nucleus=cfg.OSAL.ORACLE.SECONDS_PER_NUCLEUS,
            seconds_per_tile=cfg.OSAL.ORACLE.SECONDS_PER_TILE,
            report=report,
        )
        self._build_training()
        if not read_only:  # Detectron2's writers create files when they are built
            self.register_hooks(self.build_hooks())

    def _build_training(self) -> None:
        cfg = self.cfg
        with seeded(cfg.OSAL.SEED, "weights"):
            model = build_model(cfg)
        optimizer = build_osal_optimizer(cfg, model)
        ddp = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **ddp)
        trainer = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        # The hook brings the loader of the round that the run is in.
        self._trainer = trainer(model, [], optimizer)
        multiplier = RoundLR(
            self.schedule,
            shape=cfg.OSAL.SCHEDULE.LR,
            steps=cfg.OSAL.SCHEDULE.LR_STEPS,
            gamma=cfg.SOLVER.GAMMA,
            warmup_iters=cfg.SOLVER.WARMUP_ITERS,
            warmup_factor=cfg.SOLVER.WARMUP_FACTOR,
        )
        self.scheduler = LRMultiplier(optimizer, multiplier, max_iter=self.schedule.max_iter)
        self.checkpointer = AtomicCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, self.schedule.max_iter

    def build_hooks(self) -> list:
        ret = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            ret.append(
                hooks.PeriodicCheckpointer(
                    self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=2
                )
            )
        ret.append(
            ActiveLearningHook(
                self.steps,
                checkpointer=self.checkpointer,
                make_loader=self._make_loader,
                seed=self.cfg.OSAL.SEED,
                weights_per_round=self.cfg.OSAL.SCHEDULE.WEIGHTS_PER_ROUND,
                keep_rounds=self.cfg.OSAL.SCHEDULE.KEEP_ROUNDS,
                recipe=self._recipe,
            )
        )
        if comm.is_main_process():
            ret.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return ret

    def train(self) -> None:
        """Run all rounds that are left. Raises AwaitingLabels (exit code 0) where people have to label first."""
        TrainerBase.train(self, self.start_iter, self.max_iter)

    def resume_or_load(self, resume: bool = True) -> None:
        """As DefaultTrainer's; a run that is at its beginning then adopts OSAL.SCHEDULE.ROUND_0, if given."""
        super().resume_or_load(resume=resume)
        if self.cfg.OSAL.SCHEDULE.ROUND_0 and self.start_iter == 0:
            self._adopt(self.cfg.OSAL.SCHEDULE.ROUND_0)

    def _adopt(self, path: str) -> None:
        """Go to the end of round 0 by the checkpoint in `path`; all is done again if a kill comes in between."""
        hook = next(h for h in self._hooks if isinstance(h, ActiveLearningHook))
        on_main(self.checkpointer.save_initial, os.path.join(self.cfg.OUTPUT_DIR, INITIAL_WEIGHTS))
        self.steps.initialise()
        mine = self._recipe(0)
        seconds = self.checkpointer.load_round(path, check=lambda found: check_recipe(path, found, mine))
        self.start_iter = self.iter + 1
        on_main(lambda: self.steps.record(0, train=seconds))  # what it cost the run that trained it
        hook.keep_round(0)
        self.checkpointer.save(BOUNDARY, iteration=self.iter)

    def _recipe(self, round_index: int) -> dict:
        return recipe(self.cfg, round_index=round_index, records=self.steps.training_records())

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        raise NotImplementedError("use tools/train_al.py --eval-only, or OpenSetCOCOEvaluator directly")

    # ---- parts that the rounds ask for ------------------------------------------------------------------
    def _make_loader(self, records, round_index, first_iteration, iterations):
        cfg = self.cfg
        model = getattr(self.model, "module", self.model)
        if not getattr(model, "open_set_inputs", False):
            # A plain detector would take class K for a positive in its RPN: unknown nuclei are not annotated for it.
            known = len(self.known_classes)
            records = [
                {**r, "annotations": [a for a in r["annotations"] if a["category_id"] < known]}
                for r in records
            ]
        return build_round_loader(
            records,
            mapper_from_config(cfg, train=True, with_labels=True, cache=self._image_cache),
            seed=cfg.OSAL.SEED,
            round_index=round_index,
            first_iteration=first_iteration,
            iterations=iterations,
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def _make_scorer(self, model, records) -> PoolScorer:
        cfg = self.cfg
        return PoolScorer(
            model,
            records,
            mapper=mapper_from_config(cfg, train=False, with_labels=False, cache=self._image_cache),
            labelled_mapper=mapper_from_config(cfg, train=False, with_labels=True, cache=self._image_cache),
            batch_size=cfg.OSAL.SCORING.BATCH_SIZE,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @torch.no_grad()
    def _evaluate(self, model) -> dict:
        cfg = self.cfg
        evaluator = OpenSetCOCOEvaluator(
            self.test_records,
            self.known_classes,
            max_dets=cfg.TEST.DETECTIONS_PER_IMAGE,
            unknown=cfg.OSAL.EVAL.UNKNOWN,
            aose_score_thresh=cfg.OSAL.EVAL.AOSE_SCORE_THRESH,
        )
        evaluator.reset()
        model = getattr(model, "module", model)
        was_training = model.training
        model.eval()
        batches = inference_batches(
            self.test_records[comm.get_rank() :: comm.get_world_size()],
            mapper_from_config(cfg, train=False, with_labels=False, cache=self._image_cache),
            batch_size=cfg.OSAL.SCORING.BATCH_SIZE,
            size_divisibility=getattr(model, "target", model).backbone.size_divisibility,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            title="evaluation",
        )
        for batch in batches:
            evaluator.process(batch, model(batch))
        model.train(was_training)
        return evaluator.evaluate()

    def load_weights(self, *, resume: bool) -> None:
        """For a read-only trainer: the weights of the last checkpoint, or of MODEL.WEIGHTS, and nothing else."""
        path = self.cfg.MODEL.WEIGHTS
        if resume and self.checkpointer.has_checkpoint():
            path = self.checkpointer.get_checkpoint_file()
        extra = self.checkpointer.load(path, checkpointables=[])
        self.start_iter = extra.get("iteration", -1) + 1

    def evaluate_only(self) -> dict:
        """Evaluate the loaded weights on the test set and print the metrics as JSON; writes no file."""
        results = self._evaluate(self.model)
        if comm.is_main_process():
            print(json.dumps(results, indent=1))
        return results


def setup_logs(cfg) -> None:
    """Log to the screen and to OUTPUT_DIR/log.txt, and write the resolved config.yaml. Collective."""
    for name in ("fvcore", "detectron2", "osal_detectron2"):
        setup_logger(
            cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name, abbrev_name=_SHORT.get(name)
        )
    # The tool prints an OSALError in one line; Detectron2's loop would log its traceback first.
    logging.getLogger("detectron2.engine.train_loop").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], OSALError))
    )
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    on_main(write_bytes, os.path.join(cfg.OUTPUT_DIR, "config.yaml"), cfg.dump().encode())


def log_banner(trainer: ActiveLearningTrainer) -> None:
    """Say where the run stands, before it goes on."""
    completed = trainer.start_iter
    labelled = on_main(lambda: len(trainer.steps.ledger.labelled_keys()))
    if completed < trainer.max_iter:
        round_index, start, length = trainer.schedule.locate(completed)
        where = (
            f"round {round_index} of {trainer.steps.last_round}, iteration {completed - start} of {length}"
        )
    else:
        where = "all rounds are trained"
    logging.getLogger(__name__).info(
        "%s %s: %s, %d tiles labelled, %s",
        "resuming" if completed else "starting",
        os.path.abspath(trainer.cfg.OUTPUT_DIR),
        where,
        labelled,
        f"strategy {trainer.steps.strategy.name}, labelled tiles per round {list(trainer.schedule.labelled)}",
    )
