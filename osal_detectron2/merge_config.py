"""Config files and KEY VALUE words into a config, with errors that name the key and what was meant."""

import difflib
import re
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence

from detectron2.config import CfgNode
from detectron2.config.compat import guess_version
from yaml import YAMLError

from .core.errors import ConfigError

_ITEM = re.compile(r"""\s*('[^']*'|"[^"]*"|[^,]*?)\s*(?:,|$)""")


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file, with what it names in _BASE_, into `cfg`. Executes nothing that the file names.

    Whole numbers pass for floats. Raises ConfigError for a missing file, broken YAML, an unknown key or a wrong type.
    """
    try:
        loaded = CfgNode.load_yaml_with_base(path) or {}
    except FileNotFoundError as error:
        raise ConfigError(f"--config-file {error.filename}: no such file") from None
    except (YAMLError, OSError, UnicodeDecodeError, AssertionError, TypeError) as error:
        raise ConfigError(f"{path}: not a YAML config ({' '.join(str(error).split())})") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: not a YAML config (it holds no KEY: VALUE)")
    try:
        version = loaded.get("VERSION") or guess_version(CfgNode(loaded), path)
        if version != cfg.VERSION:  # Detectron2 knows how to read its own older files
            cfg.merge_from_file(path, allow_unsafe=False)
        else:
            merge_nested(cfg, loaded, where=f"{path}: ")
    except (AssertionError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: {error.args[0]}") from None


def merge_nested(cfg: CfgNode, nested: Mapping, *, where: str = "") -> None:
    """Merge nested settings into `cfg`, in place. `where`: begins a message."""
    fitted = _fitted(nested, cfg, cfg, where=where, prefix="")
    try:
        cfg.merge_from_other_cfg(CfgNode(fitted))
    except (AssertionError, KeyError, ValueError) as error:
        raise ConfigError(f"{where}{error.args[0]}; our keys are in osal_detectron2/config.py") from None


def merge_words(cfg: CfgNode, words: Sequence[str]) -> None:
    """Merge KEY VALUE words of a command line into `cfg`, in place. Names in a list need no quotes.

    Raises ConfigError for a key without a value, an unknown key (with the nearest one) and a wrong type.
    """
    for key, text in pairs(words, known=list(flat_keys(cfg))):
        check_key(cfg, key)
        value = _value(text, _find(cfg, key))
        try:
            cfg.merge_from_list([key, repr(value) if isinstance(value, str) else value])
        except (AssertionError, KeyError, ValueError) as error:
            raise ConfigError(f"{error.args[0]}; our keys are in osal_detectron2/config.py") from None


def pairs(words: Sequence[str], *, known: Sequence[str] = ()) -> list[tuple[str, str]]:
    """[(key, value)] of KEY VALUE words. A list may stand in several words, as a shell splits `[a, b]`.

    Raises ConfigError naming a key that is followed by nothing, or by another of the `known` keys.
    """
    words, found, known = join_lists(words), [], set(known)
    while words:
        key, *words = words
        if not words or words[0] in known:
            raise ConfigError(f"{key}: a value is missing behind it; give KEY VALUE")
        value, *words = words
        found.append((key, value))
    return found


def join_lists(words: Sequence[str]) -> list[str]:
    """The words, with those from an opening bracket to the closing one as a single word."""
    result, depth = [], 0
    for word in words:
        starts = word.partition("=")[2] if "=" in word else word
        if depth > 0:
            result[-1] += f" {word}"
        else:
            result.append(word)
        if depth > 0 or starts.startswith(("[", "(")):
            depth += sum(map(word.count, "[(")) - sum(map(word.count, "])"))
    return result


def names_in(text: str) -> list[str]:
    """The items of a list whose names may lack quotes: "[tumor, non-tumor stroma]", "tumor,lymphocyte"."""
    text = text.strip()
    if text[:1] + text[-1:] in ("[]", "()"):
        text = text[1:-1]
    found = [match.group(1) for match in _ITEM.finditer(text) if match.group(1)]
    return [
        item[1:-1] if len(item) > 1 and item[0] == item[-1] and item[0] in "'\"" else item for item in found
    ]


def check_key(cfg: CfgNode, key: str, *, where: str = "") -> None:
    """Raise ConfigError, with the nearest key, unless `cfg` has `key`; "A.B"."""
    if _find(cfg, key) is not None or key in flat_keys(cfg):
        return
    if cfg.key_is_deprecated(key) or cfg.key_is_renamed(key):
        return  # yacs says what became of it
    raise ConfigError(f"{where}{key}: there is no such key{hint(key, flat_keys(cfg))}")


def hint(key: str, keys) -> str:
    """ "; do you mean KEY?", or where our keys stand."""
    keys = list(keys)
    same_end = [other for other in keys if other.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, same_end or keys, n=1, cutoff=0.3 if same_end else 0.7)
    return f"; do you mean {near[0]}?" if near else "; our keys are in osal_detectron2/config.py"


def flat_keys(node: Mapping, prefix: str = "") -> Iterator[str]:
    """ "A.B" of every value in nested settings."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _find(cfg: CfgNode, key: str):
    node = cfg
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node


def _fitted(nested: Mapping, node: CfgNode, cfg: CfgNode, *, where: str, prefix: str) -> dict:
    result = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if key not in node and not node.is_new_allowed():
            check_key(cfg, name, where=where)
        current = node.get(key)
        if isinstance(value, Mapping) and isinstance(current, CfgNode):
            value = _fitted(value, current, cfg, where=where, prefix=f"{name}.")
        elif isinstance(current, float) and type(value) is int:
            value = float(value)
        result[key] = value
    return result


def _value(text: str, current):
    """What `text` means for a key that has the value `current`."""
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if isinstance(current, list | tuple):
        if isinstance(value, str):
            return names_in(text)
        return value if isinstance(value, list | tuple) else [value]
    if isinstance(current, float) and type(value) is int:
        return float(value)
    if isinstance(current, str) and not isinstance(value, str):
        return text  # a folder may be called 2024
    return value
