"""The lazy config that a run folder keeps, read without executing anything that the folder names.

Detectron2 reads such a file with an unsafe YAML loader and then calls whatever a `_target_` names, so a folder from
elsewhere could run any command.
"""

from collections.abc import Mapping
from functools import partial

import yaml
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from ..core.errors import ConfigError
from ..core.trust import trusted_packages

# What a detector is built of. Not all of detectron2: parts of it load Python files and pickles.
_PACKAGES = (
    "detectron2.modeling",
    "detectron2.layers",
    "detectron2.solver",
    "detectron2.data.transforms",
    "osal_detectron2.modeling",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
)
_ALSO = {"builtins.dict": dict}
_SHAPE = "detectron2.layers.shape_spec.ShapeSpec"


def load_saved(path: str) -> DictConfig:
    """The config in a YAML file that `LazyConfig.save` wrote.

    Raises ConfigError, before anything is imported or called, for YAML that builds other objects than Detectron2 writes
    there, and for a `_target_` outside of the packages that detectors are built of and of those in $OSAL_TRUST.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, _Loader)  # a SafeLoader
    except (yaml.YAMLError, OSError, UnicodeDecodeError, TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: cannot be read as a config ({' '.join(str(error).split())})") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is no config; restore it from a copy")
    try:
        _check_targets(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return OmegaConf.create(content, flags={"allow_objects": True})


def trusted(name: object) -> object:
    """The class or function that a config calls `name`. Raises ConfigError unless it is of a trusted package."""
    if isinstance(name, str) and name in _ALSO:
        return _ALSO[name]
    packages = (*_PACKAGES, *trusted_packages())
    if isinstance(name, str) and _within(name, packages):
        try:
            found = locate(name)
        except Exception as error:  # whatever importing it raises
            raise ConfigError(f"{name} cannot be imported ({' '.join(str(error).split())})") from error
        # A module of detectron2 has others as attributes: what counts is where the object itself is from.
        if callable(found) and _within(getattr(found, "__module__", None) or "", packages):
            return found
    raise ConfigError(
        f"names {name!r}, which is not of a package that detectors are built of; nothing was run. If the run is "
        "yours or you trust who made it, add --trust PACKAGE"
    )


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _check_targets(node: object) -> None:
    if isinstance(node, Mapping):
        if "_target_" in node:
            trusted(node["_target_"])
        for value in node.values():
            _check_targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _check_targets(value)
    elif isinstance(node, partial):
        _check_targets([node.args, node.keywords])


class _Loader(yaml.SafeLoader):
    """SafeLoader with the few Python objects that a saved config of a detector holds."""


def _tuple(loader, node):
    return tuple(loader.construct_sequence(node, deep=True))


def _name(loader, suffix, node):
    return trusted(suffix)


def _shape(loader, node):
    return trusted(_SHAPE)(**loader.construct_mapping(node, deep=True))


def _partial(loader, node):
    content = loader.construct_mapping(node, deep=True)
    function, args, keywords, _ = content["state"]
    if not callable(function) or not isinstance(args, tuple) or not isinstance(keywords, Mapping):
        raise ConfigError("holds a functools.partial of something else than a function")
    return partial(function, *args, **keywords)


def _refuse(loader, suffix, node):
    raise ConfigError(
        f"line {node.start_mark.line + 1} asks for the Python object {suffix!r}, which no run writes; nothing was run. "
        "Restore the file from a copy that you trust"
    )


_PYTHON = "tag:yaml.org,2002:python/"
_Loader.add_constructor(f"{_PYTHON}tuple", _tuple)
_Loader.add_constructor(f"{_PYTHON}object:{_SHAPE}", _shape)
_Loader.add_constructor(f"{_PYTHON}object/apply:functools.partial", _partial)
_Loader.add_multi_constructor(f"{_PYTHON}name:", _name)
_Loader.add_multi_constructor(_PYTHON, _refuse)
