"""Config keys and values that have another name now. The old one goes on working: in configs, commands and old runs."""

from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode

from .core.errors import ConfigError

# Old -> new: a threshold that six strategies share, and what configures the auxiliary, are no settings of one stage.
RENAMED = {
    "OSAL.UTSS.SCORE_THRESH": "OSAL.SCORING.SCORE_THRESH",
    "OSAL.PCSS.SCORE_THRESH": "OSAL.AUXILIARY.SCORE_THRESH",
    "OSAL.PCSS.NMS": "OSAL.AUXILIARY.NMS",
}
# ROI heads that were a class for each combination of box branches: old name -> (name, branches).
_BRANCHES = {
    "Prototype": ("PrototypeBranch",),
    "Evidential": ("EvidentialBranch",),
    "PrototypeEvidential": ("PrototypeBranch", "EvidentialBranch"),
}
OLD_HEADS = {
    f"{old}{kind.replace('Standard', '')}ROIHeads": (f"OpenSet{kind}ROIHeads", branches)
    for kind in ("Standard", "Res5", "Cascade")
    for old, branches in _BRANCHES.items()
}
_DEFAULTS = (["EvidentialBranch"], ["PrototypeBranch"])  # what nobody has listed
# The key that names heads -> the key of their branches.
_HEADS = {
    "MODEL.ROI_HEADS.NAME": "MODEL.ROI_HEADS.BOX_BRANCHES",
    "OSAL.AUXILIARY.ROI_HEADS_NAME": "OSAL.AUXILIARY.BOX_BRANCHES",
}
# False built the Prototype... heads without prototypes.
_PROTOTYPES = "OSAL.PROTOTYPE.ENABLED"


def accept_old_keys(cfg: CfgNode) -> None:
    """Let `cfg` take values under the old names, in place. None: not given."""
    for old in (*RENAMED, _PROTOTYPES):
        _put(cfg, old, None)


def adopt_old_keys(cfg: dict, *, default: Mapping | None = None) -> None:
    """Move values from old names to new ones, in place; the old names are gone then.

    Args:
        cfg: a config, or what a YAML file holds.
        default: the config without anybody's settings. With it, a key that has two names with two values is refused.

    Raises:
        ConfigError: naming both.
    """
    for old, new in RENAMED.items():
        value = _take(cfg, old)
        if value is None:
            continue
        if default is not None and _get(cfg, new) not in (value, _get(default, new)):
            raise ConfigError(
                f"{old} {value} and {new} {_get(cfg, new)}: the first is an old name of the second; set one"
            )
        _put(cfg, new, value)
    enabled = _take(cfg, _PROTOTYPES)
    for heads, branches in _HEADS.items():
        name, listed = _get(cfg, heads), _get(cfg, branches)
        if name in OLD_HEADS:
            known = _DEFAULTS if default is None else [_get(default, branches)]
            listed = branches_of_old_heads(name, listed, defaults=known)
            _put(cfg, heads, OLD_HEADS[name][0])
        if enabled is False and (listed or heads.startswith("OSAL.AUXILIARY.")):
            listed = [b for b in listed or () if b != "PrototypeBranch"]
        if listed is not None:
            _put(cfg, branches, listed)


def branches_of_old_heads(
    name: str, listed: Sequence[str] | None, *, defaults: Sequence[Sequence[str]] = _DEFAULTS
) -> list[str]:
    """The box branches that the old heads `name` mean. Raises ConfigError if somebody has `listed` others."""
    new, branches = OLD_HEADS[name]
    if listed is not None and list(listed) not in (list(branches), *map(list, defaults)):
        raise ConfigError(
            f"BOX_BRANCHES [{', '.join(listed)}]: the ROI heads {name} have {' and '.join(branches)}; name {new} "
            "instead to choose branches"
        )
    return list(branches)


def renamed(flat: Mapping) -> dict:
    """Flat {"A.B": value}, as run.json keeps a config, with the new names."""
    flat = dict(flat)
    adopt_old_keys(flat)
    for key, value in flat.items():
        if key.endswith("roi_heads._target_"):  # of a lazy config
            module, _, name = value.rpartition(".")
            flat[key] = f"{module}.{OLD_HEADS[name][0]}" if name in OLD_HEADS else value
    return flat


def first_names(flat: Mapping) -> dict:
    """Flat settings with the old names of heads, for what is compared with hashes of that time."""
    flat, old = dict(flat), {new: name for name, new in OLD_HEADS.items()}
    for heads, branches in _HEADS.items():
        flat[heads] = old.get((flat[heads], tuple(flat[branches])), flat[heads])
        if flat[heads] in OLD_HEADS:
            del flat[branches]
    return flat


def _holder(cfg: dict, key: str, *, make: bool = False) -> tuple[dict, str]:
    """What holds `key`, an empty dict if there is no such node, and the name of `key` there. A flat `cfg` holds all."""
    if any("." in name for name in cfg):
        return cfg, key
    *path, name = key.split(".")
    for part in path:
        cfg = cfg.setdefault(part, type(cfg)()) if make else cfg.get(part) or {}
    return cfg, name


def _get(cfg: dict, key: str):
    node, name = _holder(cfg, key)
    return node.get(name)


def _take(cfg: dict, key: str):
    node, name = _holder(cfg, key)
    return node.pop(name, None)


def _put(cfg: dict, key: str, value) -> None:
    node, name = _holder(cfg, key, make=True)
    node[name] = value
