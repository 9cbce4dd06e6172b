"""Detections of images, each nucleus with its uncertainty and a flag for "looks unknown"."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import Instances

from ..core.errors import check_choice
from ..modeling.detectors import Detectors
from ..modeling.prototypes import PrototypeBranch
from ..scoring.forward import inference_batches
from ..scoring.found import looks_unknown
from ..scoring.pool import columns_of
from .images import WindowMapper, window_records
from .load import Detector
from .seams import merge_windows

Table = dict[str, np.ndarray]
UNCERTAINTY_FIELDS = ("cls_uncertainty", "loc_tightness", "unknown_score")
UNKNOWN_RULES = ("proto", "label", "both")


def unknown_rule(detector: Detector, wanted: str = "proto") -> tuple[str | None, str]:
    """(the rule that this detector can follow, a sentence that says so).

    Without an auxiliary detector the rule is None. "proto" and "both" need both prototypes; without them the label of
    the auxiliary decides. Raises ConfigError for a rule that does not exist.
    """
    check_choice("--unknown-rule", wanted, UNKNOWN_RULES)
    if detector.auxiliary is None:
        return None, "this run has no auxiliary detector: no flag looks_unknown"
    prototypes = Detectors(detector.model).prototypes
    if wanted == "label" or (prototypes is not None and bool(prototypes.initialised.all())):
        texts = {
            "proto": "nearer to the unknown prototype",
            "label": "labelled unknown by the auxiliary detector",
            "both": "nearer to the unknown prototype and labelled unknown",
        }
        return wanted, f"looks_unknown: {texts[wanted]}"
    lack = "never saw a nucleus of each kind, so a prototype is missing"
    lack = "has no prototypes" if prototypes is None else lack
    return "label", f"looks_unknown: by the label of the auxiliary detector, which {lack}"


@torch.no_grad()
def detect(
    detector: Detector,
    records: Sequence[dict],
    *,
    score_thresh: float = 0.3,
    rule: str | None = None,
    tile: int = 0,
    overlap: int = 0,
    bound: float = float("inf"),
    batch_size: int = 4,
) -> list[Table]:
    """The detections of each record, best score first.

    Args:
        detector: see `load_detector`.
        records: see `deploy.images`.
        score_thresh: lowest score; the detector's own threshold (MODEL.ROI_HEADS.SCORE_THRESH_TEST) holds as well.
        rule: how looks_unknown is decided, see `unknown_rule`; None leaves the column out.
        tile, overlap, bound: images with a longer side than `bound` are cut into windows of `tile` pixels that share
            `overlap`; 0 cuts none.
        batch_size: cost only.

    Returns:
        For each record: boxes (n, 4) xyxy in pixels of the image, scores and classes (n,), UNCERTAINTY_FIELDS (n,)
        where the heads give them, and looks_unknown.

    Raises:
        DataError: an image is missing, damaged or of another size.
    """
    cut = window_records(records, tile=tile, overlap=overlap, bound=bound)
    if len(cut) > len(records):
        logging.getLogger(__name__).info("%d images in %d windows of %d pixels", len(records), len(cut), tile)
    mapper = WindowMapper(detector.mapper)
    batches = inference_batches(
        cut,
        mapper,
        batch_size=batch_size,
        size_divisibility=detector.target.backbone.size_divisibility,
        title="prediction",
    )
    found: dict[str, dict[tuple, Table]] = {record["image_key"]: {} for record in records}
    for batch in batches:
        tables = [_table(output["instances"], UNCERTAINTY_FIELDS) for output in detector.target(batch)]
        others = detector.auxiliary(batch) if rule else [None] * len(batch)
        for item, table, other in zip(batch, tables, others):
            # An exported model shows its classes for unknown nuclei, which come after the known ones.
            kept = (table["scores"] >= score_thresh) & (table["classes"] < len(detector.classes))
            table = {name: values[kept] for name, values in table.items()}
            if rule:
                unknown_class = detector.auxiliary.roi_heads.num_classes - 1
                auxiliary = _table(other["instances"], PrototypeBranch.field_names)
                auxiliary["labelled_unknown"] = auxiliary["classes"] == unknown_class
                table["looks_unknown"] = looks_unknown(table["boxes"], auxiliary, rule=rule)
            found[item["image_key"]][item["window"]] = table
    results = []
    for record in records:
        parts = found[record["image_key"]]
        order = sorted(parts)
        if len(order) == 1:
            results.append(parts[order[0]])
        else:
            size = record["width"], record["height"]
            results.append(merge_windows([parts[w] for w in order], order, size=size))
    return results


def _table(instances: Instances, fields: Sequence[str]) -> Table:
    return columns_of(instances, [name for name in fields if instances.has(name)])
