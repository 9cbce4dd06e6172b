"""The contract between a selection strategy and the engine that runs forward passes for it.

A strategy is a small object whose `select(context)` is a generator. It yields `Pass` requests, receives a
table for each, and returns a `Selection`. It sees numbers and never a model, so every strategy can be tested
with made-up scores, and the engine alone decides how a pass is batched, sharded over processes and cached.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..core.errors import ConfigError, LedgerError, PoolExhausted
from ..core.seeding import tie_hash

Row = Mapping[str, np.ndarray]  # of one tile: column name -> array; see `Pass`
Table = Mapping[str, Row]  # image key -> row


@dataclass(frozen=True)
class Pass:
    """A request for one forward pass of one detector over some tiles; the subclasses say what comes back.

    Every key of `over` gets a row of columns. `source` names the kind.
    """

    over: tuple[str, ...]
    detector: str = "target"
    source: ClassVar[str]

    def __new__(cls, *args: object, **kwargs: object) -> "Pass":
        # Most strategies want detections: a plain Pass(over=..., fields=...) is such a request.
        return super().__new__(Detections if cls is Pass else cls)


@dataclass(frozen=True)
class Detections(Pass):
    """Columns boxes (B, 4) xyxy in tile pixels, scores (B,), classes (B,), and the `fields` asked for.

    These are (B,) or (B, m): loc_tightness, cls_uncertainty, dist_known, logits, roi_feature ... (docs/models.md).
    `view` names a transformation of the tile before the pass (`scoring.views`; "identity" leaves it alone). Its
    detections are in pixels of the view. With `reference`, boxes (R, 4) of each tile in tile pixels, the table has a
    column "reference" (R, 4): where they lie in the view.
    """

    fields: tuple[str, ...] = ()
    view: str = "identity"
    reference: Mapping[str, np.ndarray] | None = field(default=None, compare=False)
    source = "detections"


@dataclass(frozen=True)
class GroundTruthFeatures(Pass):
    """Columns roi_feature (n, d) and classes (n,) of the annotated nuclei of labelled tiles."""

    source = "ground_truth"


@dataclass(frozen=True)
class ImageFeatures(Pass):
    """Column image_feature (D,), the mean over the tile of `feature`.

    "res5", the last map of the backbone, or "fpn", those that the ROI heads read.
    """

    feature: str = "res5"
    source = "image"


@dataclass(frozen=True)
class PredictedLoss(Pass):
    """Column predicted_loss (1,) of a target with a loss prediction head."""

    source = "loss"


@dataclass(frozen=True)
class QueryContext:
    """Everything besides forward passes that a strategy may look at."""

    pool: tuple[str, ...]
    budget: int
    seed: int
    round_index: int
    labelled: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # key -> class name -> nuclei
    known_classes: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(
        default_factory=dict
    )  # key -> slide (or image, patient) that it was cut from
    score_thresh: float = 0.05  # target detections below it take no part (OSAL.SCORING.SCORE_THRESH)
    one_box_per_nucleus: bool = (
        False  # of the target's detections one a nucleus (OSAL.SCORING.ONE_BOX_PER_NUCLEUS)
    )
    known_boxes_only: bool = False  # and those on nuclei that look known (OSAL.SCORING.KNOWN_BOXES_ONLY)

    @property
    def round(self) -> int:
        """`round_index`, as strategies of before call it."""
        return self.round_index

    @property
    def size(self) -> int:
        """Number of tiles to select: the budget, or what is left of the pool."""
        return min(self.budget, len(self.pool))

    def rank(self, keys: Sequence[str], *columns: Mapping[str, float]) -> list[str]:
        """`keys` by descending `columns`, ties broken by a seeded hash of the key (docs/reproducibility.md 1.5).

        Values are compared after rounding to 1e-5, which is above the noise of float32 kernels, so the
        order depends neither on batch size nor on the number of processes.
        """
        return sorted(
            keys,
            key=lambda k: (
                *(-round(float(c[k]), 5) for c in columns),
                tie_hash(self.seed, self.round_index, k),
            ),
        )


@dataclass(frozen=True)
class Selection:
    """The tiles to annotate, in the order of preference, with the numbers and words that explain them."""

    selected: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # column -> key -> value
    reasons: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[str, ...] = ()
    # Of a query that fills a price (fill_query.py): "unit", "target" that might be spent, "expected" cost of the tiles.
    price: Mapping[str, Any] | None = None


Query = Generator[Pass, Table, Selection]


@dataclass(frozen=True)
class NoSettings:
    """Of a strategy that has no keys of its own."""


class Strategy:
    """Base of all strategies. Subclasses set `name`, `needs`, `cost` and define `select`.

    `needs` maps a detector ("target", "auxiliary") to the detection fields that the strategy will ask of it, or
    "predicted_loss"; it is checked against the model before training begins. `Settings` is a frozen dataclass of its
    settings with their defaults; `add_osal_config` makes the config node OSAL.<node> of it, each field a key in
    capitals, and the engine gives the values to the constructor. `cost` maps a kind of forward pass, as `PoolScorer`
    counts them, to the tiles that a query with default settings takes: "U" pool, "L" labelled, "N" budget.
    `overrides` are config keys with the values that the strategy's own detectors need (another meta-architecture,
    another auxiliary); they win over the config file.
    """

    name: str = ""
    needs: Mapping[str, tuple[str, ...]] = {}
    Settings: type = NoSettings
    node: str = ""
    cost: Mapping[str, str] = {}
    overrides: Mapping[str, object] = {}

    def __init__(self, **settings: object) -> None:
        self.settings = self.Settings(**settings)

    def select(self, context: QueryContext) -> Query:
        raise NotImplementedError


_REGISTRY: dict[str, type[Strategy]] = {}


def register(cls: type[Strategy]) -> type[Strategy]:
    """Class decorator: make a strategy available under its `name`."""
    if not cls.name or cls.name in _REGISTRY:
        raise ValueError(f"strategy name {cls.name!r} is empty or taken")
    if any(cls.node and cls.node == s.node and cls.Settings is not s.Settings for s in _REGISTRY.values()):
        raise ValueError(f"strategy {cls.name}: OSAL.{cls.node} holds the settings of another strategy")
    _REGISTRY[cls.name] = cls
    return cls


def available() -> list[str]:
    """Names of all registered strategies."""
    return sorted(_REGISTRY)


def get_strategy(name: str) -> type[Strategy]:
    """The class registered under `name`; ConfigError lists the names otherwise."""
    try:
        return _REGISTRY[name]
    except KeyError:
        raise ConfigError(
            f"OSAL.STRATEGY: unknown strategy {name!r}; choose one of {', '.join(available())}"
        ) from None


def setting_nodes() -> dict[str, dict]:
    """Every node of OSAL that holds settings of strategies: its keys with their defaults."""
    classes = {cls.node: cls.Settings for cls in _REGISTRY.values() if cls.node}
    return {node: asdict(classes[node]()) for node in sorted(classes)}


def query_nodes() -> tuple[str, ...]:
    """Nodes of OSAL that decide about queries and nothing else: of strategies without detectors of their own."""
    strategies = _REGISTRY.values()
    return tuple(sorted({s.node for s in strategies if s.node} - {s.node for s in strategies if s.overrides}))


def check_selection(selection: Selection, context: QueryContext) -> Selection:
    """Hold a strategy to its contract: a subset of the pool, no duplicate, exactly the size asked for."""
    chosen = selection.selected
    if len(set(chosen)) != len(chosen) or not set(chosen) <= set(context.pool) or len(chosen) != context.size:
        outside = len(set(chosen) - set(context.pool))
        raise LedgerError(
            f"the strategy selected {len(chosen)} tiles ({len(set(chosen))} different, {outside} outside the pool) "
            f"where exactly {context.size} of the pool were asked for: a defect of the strategy"
        )
    return selection


def require_pool(context: QueryContext) -> None:
    """Raise PoolExhausted if nothing is left to query."""
    if not context.pool:
        raise PoolExhausted(f"round {context.round_index}: no unlabelled tile is left to query")
