"""The one family of errors that a user sees: each says what is wrong, where, and what to do."""

from collections.abc import Collection


class OSALError(Exception):
    """Base of every error that is the user's to mend. Tools print it in one line and exit 1."""


class ConfigError(OSALError):
    """A configuration value that cannot work; the message names the key."""


class DataError(OSALError):
    """A file of images or labels that cannot be read; the message names the file and the row."""


class LedgerError(OSALError):
    """The record of the run contradicts itself or what it is asked to do."""


class PoolExhausted(OSALError):
    """A query was asked for, but no unlabelled tile is left."""


class OutputError(OSALError):
    """A result could not be written (full disk, read-only folder); nothing was left half done."""


def check_choice(key: str, value: object, choices: Collection[str]) -> None:
    """Raise ConfigError unless the `value` of a key or an option is one of its `choices`."""
    if value not in choices:
        raise ConfigError(f"{key}: {value!r} is not one of {', '.join(choices)}")
