"""A config as run.json keeps it, and what has changed since."""

import json
from collections.abc import Mapping


def plain(mapping: Mapping) -> dict:
    """What JSON makes of a mapping: tuples become lists, so that old and new compare."""
    return json.loads(json.dumps(dict(mapping), allow_nan=False))


def changes(
    recorded: Mapping, config: Mapping, *, ignore: tuple[str, ...] = (), added: Mapping = {}
) -> list[str]:
    """A line "KEY: old -> new" for each key of `config` that is not as `recorded`, sorted by key.

    Keys that start with one of `ignore` do not count. `added`: what a key was before there was such a key, for runs of
    an older version.
    """
    new = {key: value for key, value in plain(config).items() if not key.startswith(ignore)}
    old = {key: value for key, value in plain(added).items() if key in new}
    old |= {key: value for key, value in recorded.items() if not key.startswith(ignore)}
    return [
        f"{key}: {_show(old, key)} -> {_show(new, key)}"
        for key in sorted(old.keys() | new.keys())
        if _show(old, key) != _show(new, key)
    ]


def _show(config: Mapping, key: str) -> str:
    return json.dumps(config[key], sort_keys=True) if key in config else "(not set)"
