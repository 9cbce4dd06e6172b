"""Config keys that have another name now. The old one goes on working: in configs, on the command line, in old runs."""

from collections.abc import Mapping

from detectron2.config import CfgNode

from .core.errors import ConfigError

# Old -> new: a threshold that six strategies share, and what configures the auxiliary, are no settings of one stage.
RENAMED = {
    "OSAL.UTSS.SCORE_THRESH": "OSAL.SCORING.SCORE_THRESH",
    "OSAL.PCSS.SCORE_THRESH": "OSAL.AUXILIARY.SCORE_THRESH",
    "OSAL.PCSS.NMS": "OSAL.AUXILIARY.NMS",
}


def accept_old_keys(cfg: CfgNode) -> None:
    """Let `cfg` take values under the old names, in place. None: not given."""
    for old in RENAMED:
        *path, name = old.split(".")
        node = cfg
        for part in path:
            node = node.setdefault(part, CfgNode())
        node[name] = None


def adopt_old_keys(cfg: dict, *, default: Mapping | None = None) -> None:
    """Move values from old names to new ones, in place; the old names are gone then.

    Args:
        cfg: a config, or what a YAML file holds.
        default: the config without anybody's settings. With it, a key that has two names with two values is refused.

    Raises:
        ConfigError: naming both.
    """
    for old, new in RENAMED.items():
        node, name = _holder(cfg, old)
        if name not in node:
            continue
        value = node.pop(name)
        if value is None:
            continue
        *path, key = new.split(".")
        place = cfg
        for part in path:
            place = place.setdefault(part, type(cfg)())
        if default is not None and place[key] not in (value, _value(default, new)):
            raise ConfigError(
                f"{old} {value} and {new} {place[key]}: the first is an old name of the second; set one"
            )
        place[key] = value


def renamed(flat: Mapping) -> dict:
    """Flat {"A.B": value}, as run.json keeps a config, with the new names."""
    return {RENAMED.get(key, key): value for key, value in flat.items()}


def _holder(cfg: Mapping, key: str) -> tuple[Mapping, str]:
    """The node that would hold `key`, empty if there is none, and the last part of `key`."""
    *path, name = key.split(".")
    for part in path:
        cfg = cfg.get(part) or {}
    return cfg, name


def _value(cfg: Mapping, key: str):
    node, name = _holder(cfg, key)
    return node[name]
