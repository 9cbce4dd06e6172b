"""Weights of a network from a local file, with errors that say what does not fit and what to do."""

import os
import sys
from typing import NamedTuple

import torch
from torch import nn

from osal_detectron2.core.errors import ConfigError

WRAPPERS = ("teacher", "state_dict", "model")
PREFIXES = ("module.", "backbone.", "model.", "encoder.")
# Tokens of a ViT that its other weights were trained with: a network without them computes something else.
TOKENS = ("cls_token", "dist_token", "pos_embed", "reg_token", "register_tokens", "norm_pre")


class Fit(NamedTuple):
    """What of a file went into a network."""

    loaded: frozenset[str]
    unexpected: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # name -> (file's, network's)


def read_weights(path: str, *, key: str) -> dict[str, torch.Tensor]:
    """The state dict in a local file of torch.save or a .safetensors file.

    One inside "teacher" (DINO), "state_dict" or "model" is taken out. Files are read without executing anything.

    Args:
        path: the file. key: the config key that names it, for messages.

    Raises:
        ConfigError: no such file, or no weights in it.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"{key}: there is no file '{path}'; give a local file, or '' for none")
    if path.endswith(".safetensors"):
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise ConfigError(f"{key}: '{path}' needs safetensors: pip install safetensors") from error
    else:

        def load_file(file):
            return torch.load(file, map_location="cpu", weights_only=True)

    try:
        state = load_file(path)
    except Exception as error:  # zip, pickle, safetensors and the disk each have their own
        raise ConfigError(
            f"{key}: '{path}' is no file of weights alone ({str(error).splitlines()[0] if str(error) else error!r}); "
            "where it was made, save its state dict: torch.save(network.state_dict(), file)"
        ) from error
    while isinstance(state, dict) and (inner := [w for w in WRAPPERS if isinstance(state.get(w), dict)]):
        state = state[inner[0]]
    if not isinstance(state, dict) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        raise ConfigError(
            f"{key}: '{path}' holds no state dict (name -> tensor), neither by itself nor under "
            f"{', '.join(WRAPPERS)}"
        )
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def load_fitting(network: nn.Module, state: dict[str, torch.Tensor]) -> Fit:
    """Load what fits, by name and shape, after timm's own conversion for the network's family.

    That conversion knows the names of the original releases (DINOv2) and resamples position embeddings of another
    grid. Prefixes that training frameworks add are removed.
    """
    own = network.state_dict()
    state = {_without_prefix(name, own): value for name, value in state.items()}
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(dict(state), network)
        except (RuntimeError, KeyError, ValueError, AttributeError):
            pass  # the file of another network: `check_fit` says what does not fit
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(fitting, strict=False)
    return Fit(
        loaded=frozenset(fitting),
        unexpected=tuple(k for k in state if k not in own),
        shapes={
            k: (tuple(v.shape), tuple(own[k].shape))
            for k, v in state.items()
            if k in own and k not in fitting
        },
    )


def _without_prefix(name: str, own: dict) -> str:
    while name not in own and (prefix := next((p for p in PREFIXES if name.startswith(p)), None)):
        name = name.removeprefix(prefix)
    return name


def lacking_weights(network: nn.Module, fit: Fit) -> list[str]:
    """Names of the weights of `network` that the file did not have, or in another shape."""
    return [k for k in network.state_dict() if k not in fit.loaded and "num_batches_tracked" not in k]


def check_fit(network: nn.Module, fit: Fit, *, path: str, key: str) -> None:
    """Raise ConfigError unless every weight of `network` was in the file, and the file asks for no more layers.

    `network` may have lost its upper layers since it was loaded: those need not have fitted. Weights of the file
    under the name of a part that the network has, such as blocks.0.ls1.gamma, must have found their place: left out,
    the network would run and compute something else.
    """
    lacking = lacking_weights(network, fit)
    parts = {k.partition(".")[0] for k in network.state_dict()} | set(TOKENS)
    surplus = [k for k in fit.unexpected if k.partition(".")[0] in parts]
    if not lacking and not surplus:
        return
    problems = []
    shapes = [k for k in lacking if k in fit.shapes]
    missing = [k for k in lacking if k not in fit.shapes]
    if shapes:
        file, ours = fit.shapes[shapes[0]]
        problems.append(
            f"{len(shapes)} weights have another shape, e.g. '{shapes[0]}' {file} in the file, {ours} here"
        )
    if missing:
        problems.append(f"{len(missing)} are missing in the file, e.g. '{missing[0]}'")
    if surplus:
        problems.append(f"{len(surplus)} of the file have no place, e.g. '{surplus[0]}'")
    raise ConfigError(
        f"{key}.WEIGHTS: '{path}' is not of this {type(network).__name__}: {'; '.join(problems)}. Name the network "
        f"that the file is of in {key}.NAME, and what its makers changed in {key}.KWARGS (docs/backbones.md)"
    )
