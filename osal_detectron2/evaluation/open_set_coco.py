"""COCO average precision over the known classes, and what the detector does with unknown nuclei."""

import contextlib
import io
import itertools
import logging

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..core.errors import ConfigError, DataError, check_choice
from .matching import open_set_counts

_ALL_AREAS = [[0.0, 1e10]]
_IOU_50, _IOU_75 = 0, 5  # places of 0.50 and 0.75 in COCO's ten thresholds


class OpenSetCOCOEvaluator(DatasetEvaluator):
    """Evaluate a detector of K known classes on tiles that also hold nuclei of unknown classes.

    The ground truth is built in memory from `records`: no `*_coco_format.json` cache that could go stale. AP
    is pycocotools' (101 recall points, 0-100); the mean is over the known classes that have ground truth, the
    others are left out and named in the flags (docs/reproducibility.md row 29).

    Args:
        records: Detectron2 dataset dicts of the test set with `image_id`, `height`, `width`, `annotations`;
            `category_id` 0..K-1 is known, K is every unknown class.
        known_classes: the K names, in the order of the detector's outputs.
        max_dets: detections per tile and class that count, best scores first. COCO's 100 is too few here.
        unknown: "fp": unknown nuclei are no ground truth, so a detection on one is a false positive.
            "ignore": each unknown nucleus is a crowd region of every known class. COCO then matches to it a
            detection that found no known nucleus of its class, if intersection / detection area (not IoU)
            reaches the threshold, and drops that detection from the ranking: neither true nor false. This
            also forgives a small box anywhere inside an unknown nucleus. docs/reproducibility.md row 4.
        aose_score_thresh: detections below this score take no part in the open-set counts.
        iou_thresh: IoU at which a detection claims a nucleus, for the open-set counts only.
        distributed: gather the predictions of all ranks; else evaluate those of this process alone.
        with_flags: put the list "flags" into the results. False leaves a nested dict of numbers only, which
            Detectron2's own EvalHook insists on; the flags are logged as warnings either way.

    Raises:
        ConfigError: an option that does not exist, or a predicted class that is not one of the K.
        DataError: records without ground truth, with a repeated image_id or an impossible category_id.
    """

    def __init__(
        self,
        records: list[dict],
        known_classes: list[str],
        *,
        max_dets: int = 300,
        unknown: str = "fp",
        aose_score_thresh: float = 0.5,
        iou_thresh: float = 0.5,
        distributed: bool = True,
        with_flags: bool = True,
    ):
        check_choice("unknown (OSAL.EVAL.UNKNOWN)", unknown, ("fp", "ignore"))
        if max_dets < 1:
            raise ConfigError(f"max_dets={max_dets}: at least one detection per tile must count")
        self._logger = logging.getLogger(__name__)
        self._known_classes = list(known_classes)
        self._max_dets = max_dets
        self._unknown = unknown
        self._aose_score_thresh = aose_score_thresh
        self._iou_thresh = iou_thresh
        self._distributed = distributed
        self._with_flags = with_flags
        self._truth = _ground_truth(records, num_known=len(self._known_classes))
        self._coco_gt = self._build_coco(records)
        self.reset()

    def reset(self):
        """Forget all predictions."""
        self._predictions: dict = {}
        self._non_finite = 0

    def process(self, inputs, outputs):
        """Keep the detections of a batch; `outputs[i]["instances"]` is in pixels of the original tile."""
        for tile, output in zip(inputs, outputs):
            image_id = tile["image_id"]
            if image_id not in self._truth:
                raise DataError(
                    f"image_id {image_id} was evaluated but is not in the records of the test set"
                )
            instances = output["instances"].to("cpu")
            boxes = instances.pred_boxes.tensor.detach().double().numpy().reshape(-1, 4)
            scores = instances.scores.detach().double().numpy()
            classes = instances.pred_classes.numpy()
            if len(classes) and not 0 <= classes.min() <= classes.max() < len(self._known_classes):
                raise ConfigError(
                    f"the detector predicts class {classes.max()}, but the test set has "
                    f"{len(self._known_classes)} known classes: correct MODEL.ROI_HEADS.NUM_CLASSES"
                )
            finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            self._non_finite += int((~finite).sum())
            boxes = BoxMode.convert(boxes[finite], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            self._predictions[image_id] = (boxes, scores[finite], classes[finite])

    def evaluate(self) -> dict:
        """Return {"bbox", "open_set", "counts", "flags"} on rank 0 and {} elsewhere.

        bbox: AP (mean over IoU 0.50:0.95), mAP50, AP75 and, per class, AP-<class>, AP50-<class>; in percent. Empty
        where the test set has no nucleus of a known class.
        open_set: see `open_set_counts`; A-OSE is the absolute open-set error (Miller et al. 2018), counted in
        unknown nuclei.
        """
        predictions, non_finite = self._predictions, self._non_finite
        if self._distributed:
            comm.synchronize()
            gathered = comm.gather((predictions, non_finite), dst=0)
            if not comm.is_main_process():
                return {}
            predictions = dict(itertools.chain.from_iterable(p.items() for p, _ in gathered))
            non_finite = sum(n for _, n in gathered)

        flags: list[str] = []
        results = {"bbox": self._average_precision(predictions, flags)}
        results["open_set"] = self._open_set(predictions, flags)
        results["counts"] = self._counts(predictions)
        missing = len(self._truth) - len(predictions)
        if missing:
            flags.append(f"{missing} tiles were never evaluated and count as tiles without detections")
        if non_finite:
            flags.append(f"{non_finite} detections with a box or score that is not finite were dropped")
        crowded = sum(
            int((~crowd & (classes < len(self._known_classes))).sum()) > self._max_dets
            for _, classes, crowd in self._truth.values()
        )
        if crowded:
            flags.append(f"{crowded} tiles have more than max_dets={self._max_dets} known nuclei")
        for flag in flags:
            self._logger.warning(flag)
        if self._with_flags:
            results["flags"] = flags
        return results

    def _build_coco(self, records: list[dict]) -> COCO:
        """Known nuclei as objects and, with unknown="ignore", unknown ones as crowds of every class."""
        num_known = len(self._known_classes)
        annotations: list[dict] = []
        for image_id, (boxes, classes, crowd) in self._truth.items():
            for box, cls, is_crowd in zip(boxes.tolist(), classes.tolist(), crowd.tolist()):
                if cls < num_known:
                    targets, is_crowd = [cls], int(is_crowd)
                else:
                    targets, is_crowd = (range(num_known) if self._unknown == "ignore" else ()), 1
                for target in targets:
                    annotations.append(
                        {
                            "id": len(annotations) + 1,  # COCOeval reads id 0 as "not matched"
                            "image_id": image_id,
                            "category_id": target + 1,
                            "bbox": box,
                            "area": box[2] * box[3],
                            "iscrowd": is_crowd,
                        }
                    )
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": r["image_id"], "height": r["height"], "width": r["width"]} for r in records],
            "annotations": annotations,
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(self._known_classes)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco

    def _average_precision(self, predictions: dict, flags: list[str]) -> dict[str, float]:
        num_known = len(self._known_classes)
        truth_per_class = np.zeros(num_known + 1, dtype=int)
        for _, classes, crowd in self._truth.values():
            truth_per_class += np.bincount(classes[~crowd], minlength=num_known + 1)
        present = [k for k in range(num_known) if truth_per_class[k]]
        if not present:
            flags.append(
                "no nucleus of a known class in the test set: nothing is said about average precision"
            )
            return {}
        absent = [name for k, name in enumerate(self._known_classes) if not truth_per_class[k]]
        if absent:
            flags.append("no ground truth, left out of every mean: " + ", ".join(absent))

        detections = [
            {"image_id": image_id, "category_id": int(cls) + 1, "bbox": box, "score": float(score)}
            for image_id, (boxes, scores, classes) in predictions.items()
            for box, score, cls in zip(boxes.tolist(), scores, classes)
        ]
        if detections:
            precision = self._precision(detections)  # (10 IoU thresholds, 101 recalls, K)
        else:
            # Detectron2 reports NaN here, and a learning curve cannot be drawn through that.
            flags.append("no detections")
            precision = np.zeros((10, 101, num_known))

        ap = 100.0 * precision.mean(axis=1)  # (10, K)
        result = {
            "AP": _mean(ap[:, present]),
            "mAP50": _mean(ap[_IOU_50, present]),
            "AP75": _mean(ap[_IOU_75, present]),
        }
        for k in present:
            result[f"AP-{self._known_classes[k]}"] = _mean(ap[:, k])
            result[f"AP50-{self._known_classes[k]}"] = float(ap[_IOU_50, k])
        return result

    def _precision(self, detections: list[dict]) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco_gt, self._coco_gt.loadRes(detections), "bbox")
            # Only the figures that are reported: one area range and one detection limit. `summarize()`, which
            # wants COCO's own 1, 10, 100, is not used.
            evaluation.params.areaRng, evaluation.params.areaRngLbl = _ALL_AREAS, ["all"]
            evaluation.params.maxDets = [self._max_dets]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"][:, :, :, 0, 0]

    def _open_set(self, predictions: dict, flags: list[str]) -> dict[str, float]:
        num_known = len(self._known_classes)
        claimed = claiming = total = 0
        for image_id, (gt_boxes, gt_classes, crowd) in self._truth.items():
            is_unknown = gt_classes == num_known
            total += int(is_unknown.sum())
            boxes, scores, classes = predictions.get(image_id, _NOTHING)
            kept = scores >= self._aose_score_thresh
            tile_claimed, tile_claiming = open_set_counts(
                boxes[kept],
                scores[kept],
                classes[kept],
                known_boxes=gt_boxes[~is_unknown & ~crowd],
                known_classes=gt_classes[~is_unknown & ~crowd],
                unknown_boxes=gt_boxes[is_unknown],
                iou_thresh=self._iou_thresh,
            )
            claimed, claiming = claimed + tile_claimed, claiming + tile_claiming
        if not total:
            flags.append("no unknown nuclei in the test set: the open-set figures say nothing")
        return {
            "A-OSE": claimed,
            "unknown_total": total,
            "unknown_detected_fraction": claimed / total if total else 0.0,
            "detections_on_unknown": claiming,
        }

    def _counts(self, predictions: dict) -> dict[str, int]:
        num_known = len(self._known_classes)
        classes = np.concatenate([c[~crowd | (c == num_known)] for _, c, crowd in self._truth.values()])
        with_detections = sum(1 for _, scores, _ in predictions.values() if len(scores))
        return {
            "known_nuclei": int((classes < num_known).sum()),
            "unknown_nuclei": int((classes == num_known).sum()),
            "detections": sum(len(scores) for _, scores, _ in predictions.values()),
            "tiles": len(self._truth),
            "tiles_without_detections": len(self._truth) - with_detections,
        }


_NOTHING = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=int))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if np.size(values) else 0.0


def _ground_truth(records: list[dict], *, num_known: int) -> dict:
    """{image_id: (boxes (G, 4) xywh, classes (G,), crowd (G,) bool)}."""
    if not records:
        raise DataError("the test set has no tiles: evaluation needs at least one record")
    truth: dict = {}
    for record in records:
        image_id = record["image_id"]
        name = record.get("image_key", record.get("file_name", image_id))
        if image_id in truth:
            raise DataError(f"{name}: image_id {image_id} is used by two tiles of the test set")
        if "annotations" not in record:
            raise DataError(f"{name}: no annotations, evaluation needs ground truth")
        annotations = record["annotations"]
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYWH_ABS) for a in annotations]
        classes = np.array([a["category_id"] for a in annotations], dtype=int)
        if len(classes) and not 0 <= classes.min() <= classes.max() <= num_known:
            raise DataError(
                f"{name}: category_id must be 0..{num_known} (known 0..{num_known - 1}, then unknown)"
            )
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
        truth[image_id] = (np.array(boxes, dtype=float).reshape(-1, 4), classes, crowd)
    return truth
