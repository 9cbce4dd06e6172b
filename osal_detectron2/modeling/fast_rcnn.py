"""Box output layers: true row indices, an NMS over all classes, hidden classes, and an evidential classifier."""

import torch
from detectron2.config import configurable
from detectron2.layers import cat, nms
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference_single_image
from detectron2.structures import Instances

from osal_detectron2.core.errors import ConfigError, check_choice

from .evidence import KLSchedule, activate, tmc_loss
from .unknown import unknown_outputs

NMS_MODES = ("per_class", "class_agnostic")


class OpenSetFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Detectron2's output layers, whose second result of `inference` can be trusted.

    Detectron2 drops rows with non-finite boxes or scores before it numbers them; here the indices always
    count in the list of proposals that came in.
    """

    @configurable
    def __init__(
        self, input_shape, *, nms: str = "per_class", temperature: float = 1.0, num_unknown: int = 0, **kwargs
    ):
        """
        Args:
            input_shape: shape of the box features.
            nms: "per_class" as Detectron2, or "class_agnostic": of overlapping detections only the best
                scored one stays, whatever the classes, so that no nucleus is counted twice.
            temperature: T; logits h give the loss CE(h / T) and scores softmax(h / T) (docs/reproducibility.md 3.7).
                `forward` returns h itself.
            num_unknown: U; the last U of the `num_classes` foreground classes are learnt and never detected (see
                `modeling.unknown`). 0 is Detectron2's layer.
            kwargs: arguments of `FastRCNNOutputLayers`.

        Raises:
            ConfigError: unknown `nms`, a classifier of sigmoids, or no class left to detect.
        """
        if kwargs.get("use_sigmoid_ce"):
            raise ConfigError(
                "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE (use_sigmoid_ce) is not supported: evidence and posteriors are "
                "those of a softmax classifier; set it and USE_FED_LOSS to False"
            )
        super().__init__(input_shape, **kwargs)
        check_choice("nms (OSAL.AUXILIARY.NMS)", nms, NMS_MODES)
        if num_unknown and not 0 < num_unknown < self.num_classes:
            raise ConfigError(
                f"num_unknown {num_unknown} of num_classes {self.num_classes} leaves no known class: num_classes "
                "counts the unknown ones, too"
            )
        self.nms = nms
        self.temperature = temperature
        self.num_unknown = num_unknown

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {**super().from_config(cfg, input_shape), "num_unknown": unknown_outputs(cfg)}

    def _tempered(self, predictions):
        logits, deltas = predictions
        return logits / self.temperature, deltas

    def losses(self, predictions, proposals):
        return super().losses(self._tempered(predictions), proposals)

    def predict_probs(self, predictions, proposals):
        return super().predict_probs(self._tempered(predictions), proposals)

    def inference(self, predictions, proposals):
        """
        Args:
            predictions: logits (R, K + U + 1) and deltas, as `forward` returns them.
            proposals: list[Instances] with `proposal_boxes`, R in all.

        Returns:
            list[Instances] with `pred_boxes`, `scores`, `pred_classes` in [0, K), best score first, and if U > 0
            `unknown_score`, the posterior of all unknown classes together; and for each image a long tensor: the
            row of the image's proposals that each detection came from.
        """
        if not proposals:
            return [], []
        boxes, scores = self.predict_boxes(predictions, proposals), self.predict_probs(predictions, proposals)
        return self.detect(boxes, scores, [p.image_size for p in proposals])

    def detect(self, boxes, scores, image_sizes) -> tuple[list[Instances], list[torch.Tensor]]:
        """What `inference` returns, from boxes (R, 4 or 4 (K + U)) and scores (R, K + U + 1) of each image."""
        results = [self._known(*image) for image in zip(boxes, scores, image_sizes)]
        return [r[0] for r in results], [r[1] for r in results]

    def _known(self, boxes, scores, image_size) -> tuple[Instances, torch.Tensor]:
        """Detections of the known classes alone."""
        if not self.num_unknown:
            return self._detect(boxes, scores, image_size)
        known = self.num_classes - self.num_unknown
        unknown = scores[:, known:-1].sum(dim=1)
        # The last column, which `_detect` takes for the background, is of no importance there.
        detections, rows = self._detect(
            boxes[:, : 4 * known] if boxes.shape[1] > 4 else boxes,
            torch.cat([scores[:, :known], scores[:, -1:]], dim=1),
            image_size,
        )
        detections.unknown_score = unknown[rows]
        return detections, rows

    def _detect(self, boxes, scores, image_size) -> tuple[Instances, torch.Tensor]:
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        rows = finite.nonzero().squeeze(1)
        threshold, top = self.test_nms_thresh, self.test_topk_per_image
        if self.nms == "per_class":
            detections, kept = fast_rcnn_inference_single_image(
                boxes[finite], scores[finite], image_size, self.test_score_thresh, threshold, top
            )
            return detections, rows[kept]
        # At threshold 1 nothing is suppressed: this only decodes, clips, thresholds and sorts.
        detections, kept = fast_rcnn_inference_single_image(
            boxes[finite], scores[finite], image_size, self.test_score_thresh, 1.0, -1
        )
        best = nms(detections.pred_boxes.tensor.float(), detections.scores, threshold)
        best = best[:top] if top >= 0 else best
        return detections[best], rows[kept][best]


class EvidentialOutputLayers(OpenSetFastRCNNOutputLayers):
    """The classifier itself is evidential over K + 1 classes (docs/reproducibility.md 2.6; experimental).

    Probabilities are alpha / S. They have a floor, so MODEL.ROI_HEADS.SCORE_THRESH_TEST must be raised to
    about 0.3. The TMC loss over all sampled regions takes the place of the cross entropy. It has no temperature.
    """

    @configurable
    def __init__(
        self, input_shape, *, activation: str = "softplus", schedule: KLSchedule | None = None, **kwargs
    ):
        """
        Args:
            activation: see `evidence.activate`.
            schedule: weight of the KL term; None is 1 throughout.
            kwargs: arguments of `OpenSetFastRCNNOutputLayers`.
        """
        super().__init__(input_shape, **kwargs)
        self.activation = activation
        self.schedule = schedule or KLSchedule(kl_weight=1.0, anneal_fraction=0.0)

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        ret["activation"] = cfg.OSAL.EVIDENCE.ACTIVATION
        ret["schedule"] = KLSchedule.from_cfg(cfg)
        return ret

    def losses(self, predictions, proposals):
        losses = super().losses(predictions, proposals)
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        evidence = activate(predictions[0].float(), self.activation)
        loss = tmc_loss(evidence, gt_classes, self.schedule.advance())
        losses["loss_cls"] = self.loss_weight.get("loss_cls", 1.0) * loss.sum() / max(len(loss), 1)
        return losses

    def predict_probs(self, predictions, proposals):
        alpha = activate(predictions[0].float(), self.activation) + 1
        return (alpha / alpha.sum(dim=1, keepdim=True)).split([len(p) for p in proposals], dim=0)
