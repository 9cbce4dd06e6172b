"""The contract of an oracle: who answers a query.

Add one by a class with `@register` and a `name`, which is the value of OSAL.ORACLE.NAME. docs/human_oracle.md shows the
one where people answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.errors import ConfigError
from ..core.labels import LabelFile, TileLabels
from ..core.ledger import Ledger


@dataclass(frozen=True)
class Question:
    """The tiles of one round that want labels.

    Args:
        ledger: of the run; the selection of this round is written.
        records: of the tiles, in the order of preference.
        drafts: per tile what the detectors see there (scoring/drafts.py), where the oracle has asked for it.
        name_unknown: the run learns the unknown classes by their names, so "unknown" is no answer.
    """

    ledger: Ledger
    round_index: int | str
    records: Sequence[Mapping]
    drafts: Mapping[str, Mapping] = field(default_factory=dict)
    name_unknown: bool = False

    @property
    def keys(self) -> list[str]:
        """Image keys of the tiles, in order."""
        return [record["image_key"] for record in self.records]


@dataclass(frozen=True)
class Pending:
    """There is no answer yet. `message`: what has to happen, and how to go on then."""

    message: str


class Oracle:
    """Base of all oracles. It lives on the main process alone.

    Args:
        records: every training tile (data/coco.py). known_classes, class_names: the detector's classes in order; all
            classes that an answer may have. init_keys: initial tiles that are named and have their labels in `records`.
        settings: the node OSAL.ORACLE. seed: of the run.

    `from_data`: it answers with the labels that the records have.
    """

    name: str = ""
    from_data: bool = False

    def __init__(
        self,
        *,
        records: Sequence[Mapping],
        known_classes: Sequence[str],
        class_names: Sequence[str],
        init_keys: Sequence[str],
        settings: Mapping,
        seed: int = 0,
    ) -> None:
        self.records, self.init_keys, self.settings, self.seed = records, tuple(init_keys), settings, seed
        self.known_classes, self.class_names = tuple(known_classes), tuple(class_names)

    def at_once(self, keys: Sequence[str]) -> dict[str, TileLabels] | None:
        """The labels of these tiles where they are there without a question; None where somebody has to be asked."""
        return None

    def wants_drafts(self, question: Question) -> bool:
        """Whether `answer` has a use for `Question.drafts`, which cost a pass of the detectors."""
        return False

    def answer(self, question: Question) -> LabelFile | Pending:
        """The labels of all tiles of `question`, or what is awaited. Asked again, the same question stays as it is."""
        raise NotImplementedError


_REGISTRY: dict[str, type[Oracle]] = {}


def register(cls: type[Oracle]) -> type[Oracle]:
    """Class decorator: make an oracle available under its `name`."""
    if not cls.name or cls.name in _REGISTRY:
        raise ValueError(f"oracle name {cls.name!r} is empty or taken")
    _REGISTRY[cls.name] = cls
    return cls


def get_oracle(name: str) -> type[Oracle]:
    """The class registered under `name`; ConfigError lists the names otherwise."""
    if name not in _REGISTRY:
        raise ConfigError(f"OSAL.ORACLE.NAME: {name!r} is not one of {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]
