"""Learning loss for active learning: a detector with a small head that predicts its loss (Yoo and Kweon 2019).

docs/reproducibility.md 3.5. Shape shorthand: B images, C channels of a feature map.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from detectron2.config import configurable
from detectron2.evaluation import inference_context
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from torch import nn

from osal_detectron2.core.errors import ConfigError

from .features import mean_over_image
from .round_clock import RoundClock


def pair_loss(predicted: torch.Tensor, losses: torch.Tensor, *, margin: float = 1.0) -> torch.Tensor:
    """Ranking loss of the pairs (i, B-1-i): max(0, margin - s (p_i - p_j)), s = 1 if l_i > l_j else -1; their mean.

    Args:
        predicted, losses: (B,), B even; `losses` get no gradient.
        margin: by how much the predictions of a pair should differ.

    Raises:
        ConfigError: B is odd or zero.
    """
    half, odd = divmod(len(losses), 2)
    if odd or not half:
        raise ConfigError(
            f"the loss prediction head compares pairs of tiles, and a process got {len(losses)}: "
            "set SOLVER.IMS_PER_BATCH to a multiple of twice the number of GPUs"
        )
    # In float32: half precision would round the difference of two similar losses away.
    predicted, losses = predicted.float(), losses.detach().float()
    larger = (losses > losses.flip(0))[:half]
    difference = (predicted - predicted.flip(0))[:half]
    return (margin - torch.where(larger, difference, -difference)).clamp(min=0).mean()


class LossPredictionModule(RoundClock):
    """Predicts the loss of an image: for each feature map mean, linear, ReLU; then one linear layer over all.

    After `detach_fraction` of a round its loss stops reaching the backbone.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        strides: Mapping[str, int],
        hidden: int = 128,
        detach_fraction: float = 0.8,
        round_iters: int = 0,
    ):
        """
        Args:
            channels, strides: of each feature map, by name; any number of them.
            hidden: width of the linear layer of each map.
            detach_fraction: 0 always detached, 1 never.
            round_iters: see `RoundClock`; where it is 0, only a fraction of 0 detaches.
        """
        super().__init__(round_iters=round_iters)
        if not 0 <= detach_fraction <= 1:
            raise ConfigError(
                f"OSAL.LL4AL.DETACH_FRACTION is {detach_fraction}: choose a fraction from 0 to 1"
            )
        self.strides, self.detach_fraction = dict(strides), detach_fraction
        self.levels = nn.ModuleDict({name: nn.Linear(c, hidden) for name, c in channels.items()})
        self.score = nn.Linear(hidden * len(channels), 1)

    @classmethod
    def from_config(cls, cfg, input_shape):
        shapes = {name: input_shape[name] for name in cfg.MODEL.ROI_HEADS.IN_FEATURES}
        return {
            "channels": {name: shape.channels for name, shape in shapes.items()},
            "strides": {name: shape.stride for name, shape in shapes.items()},
            "hidden": cfg.OSAL.LL4AL.HIDDEN,
            "detach_fraction": cfg.OSAL.LL4AL.DETACH_FRACTION,
            "round_iters": cfg.SOLVER.MAX_ITER,
        }

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        state_dict.pop(f"{prefix}round_iters", None)  # a buffer of checkpoints before 0.1
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def detached(self) -> bool:
        """Whether the loss of this step stops at the feature maps."""
        if not self.round_iters:
            return self.detach_fraction == 0
        return bool(self.steps >= self.detach_fraction * self.round_iters)

    def forward(
        self, feature_maps: Mapping[str, torch.Tensor], sizes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """Predicted losses (B,), float32, from maps (B, C, h, w) of images of `sizes` (height, width) in pixels."""
        # Autocast would compute the linear layers in half precision, which ties predictions.
        with torch.autocast(next(iter(feature_maps.values())).device.type, enabled=False):
            embedded = [
                layer(mean_over_image(feature_maps[name], sizes, self.strides[name])).relu()
                for name, layer in self.levels.items()
            ]
            return self.score(torch.cat(embedded, dim=1)).squeeze(1)


@META_ARCH_REGISTRY.register()
class LossPredictionRCNN(GeneralizedRCNN):
    """`GeneralizedRCNN` that learns beside its own losses which of two images has the larger one.

    The loss of an image is that of its sampled anchors and proposals: RPN, box classification and box regression,
    with the weights of the config, each normalised for the image as Detectron2 normalises for a batch.
    """

    _version = 1

    @configurable
    def __init__(
        self, *, loss_prediction: LossPredictionModule, margin: float = 1.0, weight: float = 1.0, **kwargs
    ):
        """
        Args:
            loss_prediction: the head.
            margin: see `pair_loss`.
            weight: weight of the pair loss; at 0 the detector trains as a `GeneralizedRCNN`.
            kwargs: arguments of `GeneralizedRCNN`.

        Raises:
            ConfigError: ROI heads without a single box predictor (a cascade).
        """
        super().__init__(**kwargs)
        if not hasattr(getattr(self.roi_heads, "box_predictor", None), "losses"):
            raise ConfigError(
                "LossPredictionRCNN needs ROI heads with one box predictor, e.g. MODEL.ROI_HEADS.NAME "
                f"'OpenSetStandardROIHeads', not {type(self.roi_heads).__name__}"
            )
        self.loss_prediction, self.margin, self.weight = loss_prediction, margin, weight

    @classmethod
    def from_config(cls, cfg):
        cls.check_config(cfg)
        ret = super().from_config(cfg)
        # Last, so that the detector starts from the weights of a plain one with the same seed.
        ret["loss_prediction"] = LossPredictionModule(cfg, ret["backbone"].output_shape())
        return {**ret, "margin": cfg.OSAL.LL4AL.MARGIN, "weight": cfg.OSAL.LL4AL.WEIGHT}

    @staticmethod
    def check_config(cfg) -> None:
        """Raise ConfigError for a config that this architecture cannot train."""
        gpus, batch = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
        if batch % (2 * gpus):
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH: LL4AL compares pairs of tiles on each GPU, and {batch} tiles on {gpus} "
                f"GPU{'s' * (gpus > 1)} leave one without a partner; set it to a multiple of {2 * gpus}"
            )
        if cfg.OSAL.DATA.UNKNOWN_POLICY == "ignore":
            raise ConfigError(
                "OSAL.DATA.UNKNOWN_POLICY ignore is not supported by LL4AL (MODEL.META_ARCHITECTURE "
                "LossPredictionRCNN); use the policy drop, or another strategy"
            )

    def forward(self, batched_inputs: list[dict]):
        """In training the losses, with "loss_prediction"; otherwise detections, as `GeneralizedRCNN`."""
        if not self.training:
            return self.inference(batched_inputs)
        feature_maps: dict[str, torch.Tensor] = {}
        hook = self.backbone.register_forward_hook(lambda module, args, maps: feature_maps.update(maps))
        try:
            with (
                losses_per_image(self.proposal_generator, split_rpn) as rpn,
                losses_per_image(self.roi_heads.box_predictor, split_box) as box,
            ):
                losses = super().forward(batched_inputs)
        finally:
            hook.remove()
        if self.loss_prediction.detached:
            feature_maps = {name: values.detach() for name, values in feature_maps.items()}
        self.loss_prediction.steps += 1
        predicted = self.loss_prediction(feature_maps, [x["image"].shape[-2:] for x in batched_inputs])
        true = torch.stack(rpn + box).sum(dim=0)
        _log(predicted.detach(), true)
        return {**losses, "loss_prediction": self.weight * pair_loss(predicted, true, margin=self.margin)}

    @torch.no_grad()
    def predict_loss(self, batched_inputs: list[dict]) -> torch.Tensor:
        """Predicted losses (B,) in inference mode, from the backbone and the head alone."""
        with inference_context(self):
            images = self.preprocess_image(batched_inputs)
            return self.loss_prediction(self.backbone(images.tensor), images.image_sizes)


@contextmanager
def losses_per_image(
    module: nn.Module | None, split: Callable[..., Iterator[tuple]]
) -> Iterator[list[torch.Tensor]]:
    """While open, `module.losses(...)` also appends the summed losses of each image, (B,), to the list that is yielded.

    The module's own method computes them from the same arguments, cut by `split`, so nothing is sampled anew and every
    subclass keeps its losses. It leaves no trace: no gradient, nothing logged, buffers (schedules) as they were.
    """
    recorded: list[torch.Tensor] = []
    if module is None:  # precomputed proposals: there is no RPN
        yield recorded
        return
    original = module.losses

    def recording(*args):
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        values = []
        with torch.no_grad(), EventStorage():
            for part in split(*args):
                values.append(sum(loss.float() for loss in original(*part).values()))
                for buffer, value in buffers:
                    buffer.copy_(value)
        recorded.append(torch.stack(values))
        return original(*args)

    module.losses = recording
    try:
        yield recorded
    finally:
        del module.losses


def split_rpn(anchors, logits, labels, deltas, boxes) -> Iterator[tuple]:
    """The arguments of `RPN.losses` for each image alone."""
    for i in range(len(labels)):
        one = slice(i, i + 1)
        yield anchors, [x[one] for x in logits], labels[one], [x[one] for x in deltas], boxes[one]


def split_box(predictions, proposals) -> Iterator[tuple]:
    """The arguments of `FastRCNNOutputLayers.losses` for each image alone."""
    sizes = [len(p) for p in proposals]
    for prediction, proposal in zip(zip(*(x.split(sizes) for x in predictions)), proposals):
        yield prediction, [proposal]


def _log(predicted: torch.Tensor, true: torch.Tensor) -> None:
    """Share of the pairs that the head has in the right order."""
    right = (predicted > predicted.flip(0)) == (true > true.flip(0))
    get_event_storage().put_scalar("loss_prediction/pairs_in_order", right.float().mean().item())
