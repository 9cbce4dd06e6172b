"""The grid file: which runs a benchmark consists of, and in which order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..core.errors import ConfigError
from .results import FULL, INITIAL_ONLY

# What two methods start from, both one training and no query: every tile labelled, and the initial tiles alone.
_ONE_TRAINING = {"OSAL.STRATEGY": "random", "OSAL.BUDGET.NUM_QUERIES": 0}
BELOW = {
    FULL: {**_ONE_TRAINING, "OSAL.BUDGET.INIT_TILES": 0, "OSAL.BUDGET.INIT_FRACTION": 1.0},
    INITIAL_ONLY: _ONE_TRAINING,
}

_KEYS = {"config", "options", "methods", "settings", "folds", "seeds"}
_NAME = re.compile(r"[A-Za-z0-9_.+]+")  # no "-": it separates the parts of a result file's name


@dataclass(frozen=True)
class Cell:
    """One run of the grid: `options` are the words that `osal train` takes after its config file."""

    setting: str
    fold: str
    method: str
    seed: int
    options: tuple[str, ...]

    @property
    def id(self) -> str:
        """setting/fold/method/seed, also its folder below OUTPUT/cells."""
        return f"{self.setting}/{self.fold}/{self.method}/{self.seed}"

    @property
    def result_name(self) -> str:
        return self.id.replace("/", "-") + ".json"


@dataclass(frozen=True)
class Grid:
    """A grid file as read by `read_grid`. config: the base config file; the others: name -> words of options."""

    config: Path
    options: tuple[str, ...]
    methods: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, tuple[str, ...]]
    folds: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]

    def cells(
        self,
        *,
        methods: Sequence[str] = (),
        settings: Sequence[str] = (),
        folds: Sequence[str] = (),
        seeds: Sequence[int] = (),
        options: Sequence[str] = (),
    ) -> list[Cell]:
        """The cells in the order they are run, so that whole comparisons are complete early.

        By seed, then setting, then fold, then method. An empty selection takes all; `options` come last in every
        cell. Raises ConfigError for a selected name that the grid does not have.
        """
        kept = {
            "methods": _chosen("methods", self.methods, methods),
            "settings": _chosen("settings", self.settings, settings),
            "folds": _chosen("folds", self.folds, folds),
            "seeds": _chosen("seeds", dict.fromkeys(self.seeds), seeds),
        }
        return [
            Cell(
                setting=setting,
                fold=fold,
                method=method,
                seed=seed,
                options=(
                    *self.options,
                    *self.settings[setting],
                    *self.folds[fold],
                    *self.methods[method],
                    "OSAL.SEED",
                    str(seed),
                    *options,
                ),
            )
            for seed in kept["seeds"]
            for setting in kept["settings"]
            for fold in kept["folds"]
            for method in kept["methods"]
        ]


def read_grid(path: str | Path) -> Grid:
    """Read a grid file.

    Keys: `config`, a config file, relative to the grid file; `options`, for every cell; `methods` and `settings`,
    name -> options; `folds`, the same (default: one fold named "all"); `seeds`, a list of whole numbers. Options are
    a mapping {KEY: value} or the list of words of the command line. The methods `full` and
    `initial_only` start from BELOW.
    Raises ConfigError naming the file, the key and what it should be.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a grid file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is no mapping; a grid has the keys {', '.join(sorted(_KEYS))}")
    if unknown := sorted(map(str, content.keys() - _KEYS)):
        raise ConfigError(f"{path}: key {unknown[0]} is unknown; a grid has {', '.join(sorted(_KEYS))}")
    for key in ("config", "methods", "settings", "seeds"):
        if not content.get(key):
            raise ConfigError(f"{path}: key {key} is missing or empty")
    seeds = content["seeds"]
    if not isinstance(seeds, list) or not all(type(s) is int and s >= 0 for s in seeds):
        raise ConfigError(f"{path}: seeds must be a list of whole numbers from 0 up, not {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: seeds {seeds} names a seed twice")
    config = path.parent / str(content["config"])
    if not config.is_file():
        raise ConfigError(f"{path}: config: {config} is not a file (the path is relative to the grid file)")
    methods = _named(path, "methods", content["methods"], below=BELOW)
    return Grid(
        config=config,
        options=_words(path, "options", content.get("options")),
        methods=methods,
        settings=_named(path, "settings", content["settings"]),
        folds=_named(path, "folds", content.get("folds") or {"all": None}),
        seeds=tuple(seeds),
    )


def _named(path: Path, key: str, value, below: Mapping[str, Mapping] | None = None) -> dict[str, tuple]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key} must map a name to its options, but is {value!r}")
    for name in value:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{path}: {key}: {name!r} cannot be a name; use letters, digits and _ . + (quote numbers)"
            )
    below = below or {}
    return {
        name: _words(path, f"{key}.{name}", below.get(name)) + _words(path, f"{key}.{name}", options)
        for name, options in value.items()
    }


def _words(path: Path, key: str, options) -> tuple[str, ...]:
    if options is None:
        return ()
    if isinstance(options, dict):
        options = [word for pair in options.items() for word in pair]
    if not isinstance(options, list) or len(options) % 2:
        raise ConfigError(f"{path}: {key} must be {{KEY: value, ...}} or a list KEY, value, ...: {options!r}")
    return tuple(map(str, options))


def _chosen(key: str, present: Mapping, wanted: Sequence) -> list:
    if missing := [str(name) for name in wanted if name not in present]:
        raise ConfigError(
            f"{key}: the grid has no {', '.join(missing)}; it has {', '.join(map(str, present))}"
        )
    return [name for name in present if not wanted or name in wanted]
