"""Runs the passes that a strategy asks for: sharded over ranks, batched, gathered, each only once."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import inference_context
from detectron2.structures import Instances
from detectron2.utils import comm

from ..core.errors import ConfigError
from ..data.mapper import TileMapper
from ..dist import gather
from ..modeling.box_branch import branches_with
from ..modeling.detectors import Detectors
from ..modeling.features import ground_truth_features, image_features
from ..strategies import Detections, GroundTruthFeatures, ImageFeatures, Pass, PredictedLoss, Strategy
from .forward import inference_batches
from .views import ViewMapper, check_view

Table = dict[str, dict[str, np.ndarray]]


def check_needs(strategy: type[Strategy] | Strategy, model: torch.nn.Module) -> None:
    """Fail at start-up, not after hours of training, if the model does not supply what the strategy reads."""
    detectors = Detectors(model)
    for detector, fields in strategy.needs.items():
        child = detectors.named(detector)
        if not hasattr(child, "roi_heads"):
            raise ConfigError(
                f"strategy {strategy.name} needs ROI heads in the {detector} detector, and {type(child).__name__} has "
                "none; start from a Faster, Mask, Cascade or Keypoint R-CNN config, with an open-set head in "
                "MODEL.ROI_HEADS.NAME"
            )
        missing = [f for f in fields if f not in detectors.fields(detector)]
        if "predicted_loss" in missing:
            raise ConfigError(
                f"strategy {strategy.name} needs a detector that predicts its loss, which {type(child).__name__} does "
                "not; train with OSAL.STRATEGY ll4al, or set MODEL.META_ARCHITECTURE to LossPredictionRCNN"
            )
        if missing:
            node = "OSAL.AUXILIARY" if detector == "auxiliary" else "MODEL.ROI_HEADS"
            remedy = [f"add {name} to {node}.BOX_BRANCHES" for name in branches_with(missing)]
            if not detectors.fields(detector):
                key = "OSAL.AUXILIARY.ROI_HEADS_NAME" if detector == "auxiliary" else "MODEL.ROI_HEADS.NAME"
                remedy.insert(0, f"set {key} to open-set heads, e.g. OpenSetStandardROIHeads")
            raise ConfigError(
                f"strategy {strategy.name} needs {', '.join(missing)} of the {detector} detector, which "
                f"{type(child.roi_heads).__name__} does not write; {' and '.join(remedy) or 'no box branch does'}"
            )


class PoolScorer:
    """Answers `Pass` requests with a model.

    Args:
        model: OSALRCNN or a plain detector (DDP-wrapped or not). Put into eval mode during a pass.
        records: image key -> record, for every tile that may be asked for.
        mapper: inference mapper (no augmentation); `labelled_mapper` also returns the annotated instances, and may be
            left out where no request is for them.
        batch_size, num_workers: cost only, no influence on the result.

    `passes` counts tiles, in the terms of the cost table of docs/strategies.md: "target" is a full pass of the target,
    "target backbone" one that ends with its backbone, "target ground truth" one over annotated boxes.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        records: Mapping[str, dict],
        *,
        mapper: TileMapper,
        labelled_mapper: TileMapper | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        self.detectors, self.records = Detectors(model), records
        self.mapper, self.labelled_mapper = mapper, labelled_mapper or mapper
        self.batch_size, self.num_workers = batch_size, num_workers
        self.passes: dict[str, int] = {}
        self._done: dict[tuple, tuple[set[str], Table]] = {}

    def run(self, request: Pass, *, seed: int = 0, round_index: int = 0) -> Table:
        """The table of a request. Collective: every rank calls it with the same request and gets all of it.

        `seed` and `round_index` are what random views depend on, besides the tile.

        Raises:
            ConfigError: unknown view.
        """
        wanted: tuple[str, ...] = ()
        # Not kept: a table with a reference answers this request only, and box features of a pool fill the memory.
        reusable = True
        if isinstance(request, Detections):
            check_view(request.view)
            wanted = request.fields
            reusable = request.reference is None and "roi_feature" not in wanted
        # Fields of detections are columns of one table: what else a request says tells tables apart.
        kind = replace(request, over=())
        kept = (replace(kind, fields=()) if isinstance(kind, Detections) else kind, seed, round_index)
        fields, table = self._done.setdefault(kept, (set(), {})) if reusable else (set(), {})
        if not set(wanted) <= fields:
            table.clear()
            fields.update(wanted)
        missing = sorted(set(request.over) - table.keys())
        mine = missing[comm.get_rank() :: comm.get_world_size()]
        for part in gather(self._forward(request, mine, sorted(fields), seed=seed, round_index=round_index)):
            table.update(part)
        counter = request.detector + _COUNTED_AS[type(request)]
        self.passes[counter] = self.passes.get(counter, 0) + len(missing)
        return {key: table[key] for key in request.over}

    @torch.no_grad()
    def _forward(
        self, request: Pass, keys: list[str], fields: list[str], *, seed: int, round_index: int
    ) -> Table:
        detector = self.detectors.named(request.detector)
        whole = self.labelled_mapper if isinstance(request, GroundTruthFeatures) else self.mapper
        view, reference = getattr(request, "view", "identity"), getattr(request, "reference", None)
        mapper: Callable[[dict], dict] = whole
        if view != "identity" or reference is not None:
            places = {k: reference[k] for k in keys} if reference is not None else {}
            mapper = ViewMapper(whole, view, seed=seed, round_index=round_index, reference=places)
        batches = inference_batches(
            [self.records[k] for k in keys],
            mapper,
            batch_size=self.batch_size,
            size_divisibility=detector.backbone.size_divisibility,
            num_workers=self.num_workers,
            title=f"scoring ({request.detector}{'' if view == 'identity' else ', ' + view})",
        )
        result: Table = {}
        with inference_context(detector):
            for batch in batches:
                for item, row in zip(batch, _rows(request, detector, batch, fields)):
                    if reference is not None:
                        row["reference"] = item["reference"]
                    result[item["image_key"]] = row
        return result


def _detections(detector: Any, batch: list[dict], fields: list[str]) -> list[dict[str, np.ndarray]]:
    with detector.roi_heads.keeping_features() if "roi_feature" in fields else nullcontext():
        outputs = detector(batch)
    return [columns_of(output["instances"], fields) for output in outputs]


def columns_of(instances: Instances, fields: Sequence[str]) -> dict[str, np.ndarray]:
    """Detections as columns boxes (B, 4) xyxy, scores, classes (B,) and the `fields`."""
    row = {
        "boxes": instances.pred_boxes.tensor,
        "scores": instances.scores,
        "classes": instances.pred_classes,
        **{f: instances.get(f) for f in fields},
    }
    return {name: _to_numpy(value) for name, value in row.items()}


def _rows(request: Pass, detector: Any, batch: list[dict], fields: list[str]) -> list[dict]:
    """The row of each tile of `batch` for this kind of request."""
    if isinstance(request, GroundTruthFeatures):
        pairs = ground_truth_features(detector, batch)
        return [{"roi_feature": _to_numpy(f), "classes": _to_numpy(c)} for f, c in pairs]
    if isinstance(request, ImageFeatures):
        features = image_features(detector, batch, feature=request.feature)
        return [{"image_feature": _to_numpy(f)} for f in features]
    if isinstance(request, PredictedLoss):
        return [{"predicted_loss": _to_numpy(value[None])} for value in detector.predict_loss(batch)]
    return _detections(detector, batch, fields)


_COUNTED_AS = {
    Detections: "", GroundTruthFeatures: " ground truth", ImageFeatures: " backbone", PredictedLoss: " backbone"
}  # fmt: skip


def _to_numpy(value: torch.Tensor) -> np.ndarray:
    array = value.detach().cpu().numpy()
    if array.dtype.kind == "f" and np.isnan(array).any():
        logging.getLogger(__name__).warning("a detector returned NaN; the training has probably diverged")
    return array
