"""The sides that benchmarks/overhead.py compares: OSALRCNN and PoolScorer, plain detectors, Detectron2's loop."""

from collections.abc import Callable
from itertools import islice

import torch
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.data.mapper import mapper_from_config
from osal_detectron2.modeling.detectors import Detectors
from osal_detectron2.modeling.meta_arch import auxiliary_cfg, auxiliary_view, target_cfg, target_view
from osal_detectron2.scoring.forward import inference_batches
from osal_detectron2.scoring.pool import PoolScorer
from osal_detectron2.strategies import Detections

# In the order of OSALRCNN.forward, so that both sides draw the same samples.
DETECTORS = ("target", "auxiliary")
Side = Callable[[int], object]


def plain_detectors(cfg) -> dict[str, torch.nn.Module]:
    """Detectron2's own detectors of K and of two classes, otherwise as `cfg` has them."""
    detectors = {}
    for name, child in zip(DETECTORS, (target_cfg(cfg), auxiliary_cfg(cfg))):
        stock = "Res5ROIHeads" if "Res5" in child.MODEL.ROI_HEADS.NAME else "StandardROIHeads"
        child.MODEL.ROI_HEADS.NAME = stock
        if child.MODEL.PROPOSAL_GENERATOR.NAME == "OpenSetRPN":
            child.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
        detectors[name] = build_model(child)
    return detectors


def same_weights(plain: dict[str, torch.nn.Module], model: torch.nn.Module) -> None:
    """Give the plain detectors the weights of OSALRCNN; it has more, namely those of its branches."""
    # The auxiliary may have no backbone of its own.
    backbone = {k: v for k, v in model.target.state_dict().items() if k.startswith("backbone.")}
    for name, detector in plain.items():
        state = backbone | getattr(model, name).state_dict()
        missing = detector.load_state_dict(state, strict=False).missing_keys
        assert not missing, missing


def training_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[dict]) -> None:
    loss = sum(model(batch).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def warm_up(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches, *, steps: int) -> None:
    """Train for `steps` and one, until the prototype loss is active. Raises ConfigError if it does not become so."""
    for module in model.modules():
        if hasattr(module, "begin_round"):
            module.begin_round(iterations=2 * steps, reset=True)  # their warm-up is at most half of a round
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=steps)
    for batch in islice(batches, steps + 1):
        training_step(model, optimizer, batch)
        rate.step()
    prototypes = Detectors(model).prototypes
    if prototypes is not None and not bool(prototypes.initialised.all()):
        raise ConfigError(
            f"no tile with a known and none with an unknown nucleus came in {steps} steps of warm-up, so the "
            "prototype loss is not active; raise --train-steps"
        )


def training_sides(cfg, model, plain, optimizer, batches: list) -> dict[str, Side]:
    """The step of OSALRCNN, and the steps of the two plain detectors. One batch for each turn."""
    views = {
        "auxiliary": lambda instances: auxiliary_view(instances, model.num_known),
        "target": lambda instances: target_view(instances, model.num_known, "drop"),
    }
    labelled = [
        {name: [{**x, "instances": view(x["instances"])} for x in batch] for name, view in views.items()}
        for batch in batches
    ]
    optimizers = {name: build_optimizer(cfg, detector) for name, detector in plain.items()}

    def osal(turn: int) -> None:
        torch.manual_seed(turn)
        training_step(model, optimizer, batches[turn])

    def both_plain(turn: int) -> None:
        torch.manual_seed(turn)
        for name, detector in plain.items():
            training_step(detector, optimizers[name], labelled[turn][name])

    return {"osal": osal, "plain": both_plain}


def scoring_sides(cfg, model, plain, records: dict[str, dict], *, batch_size: int, needs) -> dict[str, Side]:
    """Each side puts all `records` through both detectors."""
    workers = cfg.DATALOADER.NUM_WORKERS
    cache = {} if cfg.OSAL.DATA.CACHE_IMAGES else None
    mapper = mapper_from_config(cfg, train=False, with_labels=False, cache=cache)
    detectors = [Detectors(model).named(name) for name in DETECTORS]
    divisor = model.target.backbone.size_divisibility
    rows = [records[key] for key in sorted(records)]
    in_memory = list(inference_batches(rows, mapper, batch_size=batch_size, size_divisibility=divisor))
    on_disk = [[records[item["image_key"]] for item in batch] for batch in in_memory]

    def scoring(turn: int) -> dict:
        scorer = PoolScorer(model, records, mapper=mapper, batch_size=batch_size, num_workers=workers)
        return {
            name: scorer.run(Detections(over=tuple(records), detector=name, fields=needs[name]))
            for name in DETECTORS
        }

    def forward(detectors, batches, read=lambda batch: batch) -> None:
        for detector in detectors:
            for batch in batches:
                detector(read(batch))

    def stock(turn: int) -> None:
        for detector in detectors:
            loader = build_detection_test_loader(rows, mapper=mapper, num_workers=workers)
            inference_on_dataset(detector, loader, DatasetEvaluators([]))

    return {
        "scoring": scoring,
        "bare": lambda turn: forward(detectors, in_memory),
        "reading": lambda turn: forward(detectors, on_disk, lambda batch: [mapper(r) for r in batch]),
        "plain": lambda turn: forward(plain.values(), in_memory),
        "stock": stock,
    }
