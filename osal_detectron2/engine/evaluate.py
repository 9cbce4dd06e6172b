"""The test set through the target detector, in all processes."""

import logging
from collections.abc import Callable, Sequence

import torch
from detectron2.evaluation import inference_context
from detectron2.utils import comm

from ..data.test_record import recorded_test
from ..dist import on_main
from ..evaluation.open_set_coco import OpenSetCOCOEvaluator
from ..modeling.detectors import Detectors
from ..scoring.forward import inference_batches


@torch.no_grad()
def evaluate_detector(
    model: torch.nn.Module,
    records: Sequence[dict],
    mapper: Callable[[dict], dict],
    make_evaluator: Callable[[Sequence[dict]], OpenSetCOCOEvaluator],
    *,
    batch_size: int,
    num_workers: int = 0,
    record: str = "",
    known_classes: Sequence[str] = (),
) -> dict:
    """Metrics of the target detector on test `records`; where nothing is labelled there, only a flag. Collective.

    record: the folder that has the labels of the test tiles in place of `records` (data/test_record.py); the metrics
    then say by its hash, "test_record", which labels they were measured on.
    """
    measured_on = {}
    if record:
        records, digest = on_main(recorded_test, records, record, known_classes=known_classes)
        measured_on = {"test_record": digest} if digest else {}
    if not any(record["annotations"] for record in records):
        what = "the test set has no annotations" if records else "there is no test set"
        if comm.is_main_process():
            logging.getLogger(__name__).info("not evaluated: %s", what)
        return {"flags": [f"not evaluated: {what}"]}
    evaluator = make_evaluator(records)  # which takes labelled records only
    evaluator.reset()
    detectors = Detectors(model)
    batches = inference_batches(
        records[comm.get_rank() :: comm.get_world_size()],
        mapper,
        batch_size=batch_size,
        size_divisibility=detectors.target.backbone.size_divisibility,
        num_workers=num_workers,
        title="evaluation",
    )
    with inference_context(detectors.model):
        for batch in batches:
            evaluator.process(batch, detectors.model(batch))
    return {**evaluator.evaluate(), **measured_on}
