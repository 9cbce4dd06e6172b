"""What a command line asks for: a config and its trainer, from files and words, or from a run folder that has both."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import yaml
from detectron2.config import CfgNode, get_cfg

from .. import add_osal_config  # brings the models and heads that a config may name
from ..core.errors import ConfigError
from ..core.ledger import Ledger
from ..core.run_config import LAZY, OWN, YAML, config_file
from ..merge_config import join_lists, merge_file, merge_nested, merge_words, pairs

# Keys that both fronts have; OSAL.* is osal.* as well.
_TWINS = {
    "OUTPUT_DIR": "train.output_dir",
    "MODEL.DEVICE": "train.device",
    "MODEL.WEIGHTS": "train.init_checkpoint",
}
_QUERIES = "OSAL.BUDGET.NUM_QUERIES"  # the one key of a record that may grow


def prepare(args: argparse.Namespace) -> tuple[str, Callable]:
    """OUTPUT_DIR, and what makes the trainer (resume=bool, read_only=bool); in every process.

    `args.front`: that of the tool. The folder of a run knows its front and its config, so with --resume or --dry-run
    it takes no --config-file. Raises ConfigError.
    """
    front, words = args.front, join_lists(args.opts)
    folder = output_dir_in(words)
    if folder and Ledger.exists(folder) and _goes_on(args):
        front = Ledger.open(folder).header["front"]
        if front == OWN and args.resume and not args.eval_only:
            raise ConfigError(
                f"{folder}: was started by a training script of its owner; start that again, with resume=True"
            )
        front = YAML if front == OWN else front
        if front != args.front and args.config_file:
            right = f"lazy --resume train.output_dir={folder}"
            right = right if front == LAZY else f"train --resume OUTPUT_DIR {folder}"
            raise ConfigError(f"{folder}: was started from another kind of config; use osal {right}")
        words = _words_for(front, words) if front != args.front else words
    if not args.config_file and args.resume and not (folder and Ledger.exists(folder)):
        where = folder or "OUTPUT_DIR is not given, so there is"
        raise ConfigError(
            f"{where}: no run to go on with; give its OUTPUT_DIR, or --config-file to start one"
        )
    if front == LAZY:
        from .lazy import LazyActiveLearningTrainer

        cfg = lazy_config(args, words)
        return cfg.train.output_dir, partial(LazyActiveLearningTrainer, cfg)
    from .trainer import ActiveLearningTrainer

    cfg = yaml_config(args, words)
    return cfg.OUTPUT_DIR, partial(ActiveLearningTrainer, cfg)


def yaml_config(args: argparse.Namespace, words: Sequence[str]) -> CfgNode:
    """The config of a YAML run: what the run to go on with has on record, then --config-file, then the words."""
    cfg = read_config(args.config_file, words)
    folder = cfg.OUTPUT_DIR
    if _goes_on(args) and (recorded := recorded_yaml(folder)) is not None:
        if args.config_file:
            merge_file(recorded, args.config_file)
        merge_words(recorded, words)
        recorded.OUTPUT_DIR = folder  # the folder may have moved
        return recorded
    return cfg


def lazy_config(args: argparse.Namespace, words: Sequence[str]):
    """The same for a LazyConfig."""
    from .lazy_config import apply_words, load_config

    folder = output_dir_in(words)
    if folder is None and args.config_file:
        folder = load_config(args.config_file, words).train.output_dir
    if not (folder and _goes_on(args) and Ledger.exists(folder) and config_file(folder).is_file()):
        return load_config(args.config_file, words)
    recorded = load_config(str(config_file(folder)))
    recorded.osal.setdefault("BUDGET", {})
    config = Ledger.open(folder).header["config"]
    if _QUERIES in config:
        recorded.osal.BUDGET["NUM_QUERIES"] = config[_QUERIES]
    if args.config_file:
        cfg = load_config(args.config_file, words, recorded=recorded)
    else:
        cfg = apply_words(recorded, words)
    cfg.train.output_dir = folder
    return cfg


def recorded_yaml(folder: str) -> CfgNode | None:
    """The config that the run in `folder` goes on with, None where it keeps none. Executes and opens nothing else.

    Keys that this version does not know are left out: the check against run.json names them.
    """
    path = config_file(folder)
    if not Ledger.exists(folder) or not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a config ({' '.join(str(error).split())})") from None
    cfg = get_cfg()
    add_osal_config(cfg)
    merge_nested(cfg, _known(content if isinstance(content, dict) else {}, cfg), where=f"{path}: ")
    config = Ledger.open(folder).header["config"]
    cfg.OSAL.BUDGET.NUM_QUERIES = config.get(_QUERIES, cfg.OSAL.BUDGET.NUM_QUERIES)
    return cfg


def output_dir_in(words: Sequence[str]) -> str | None:
    """The run folder that words of either front name."""
    found = None
    for word, following in zip(words, [*words[1:], None]):
        key, equals, value = word.partition("=")
        if word == "OUTPUT_DIR":
            found = following
        elif equals and key in ("train.output_dir", "OUTPUT_DIR"):
            found = value
    return found


def _goes_on(args: argparse.Namespace) -> bool:
    return args.resume or args.dry_run or not args.config_file


def read_config(path: str, words: Sequence[str]) -> CfgNode:
    """Detectron2's and our defaults, then the file (or ""), then KEY VALUE words. Raises ConfigError."""
    cfg = get_cfg()
    add_osal_config(cfg)
    if path:
        merge_file(cfg, path)
    merge_words(cfg, words)
    return cfg


def _known(content: Mapping, node: CfgNode) -> dict:
    """Of nested settings those that `node` has."""
    return {
        key: _known(value, node[key])
        if isinstance(value, Mapping) and isinstance(node[key], CfgNode)
        else value
        for key, value in content.items()
        if key in node
    }


def _words_for(front: str, words: Sequence[str]) -> list[str]:
    """Words of the other front in the spelling of this one. Raises ConfigError for a key that has no twin."""
    if any("=" in word for word in words):
        given = [tuple(word.split("=", 1)) if "=" in word else (word, "") for word in words]
    else:
        given = pairs(words)
    result = []
    for key, value in given:
        twins = _TWINS if front == LAZY else {lazy: name for name, lazy in _TWINS.items()}
        ours, theirs = ("osal.", "OSAL.") if front == LAZY else ("OSAL.", "osal.")
        if key.startswith(ours) or key in twins.values():
            twin = key
        elif key.startswith(theirs):
            twin = ours + key.removeprefix(theirs)
        elif key in twins:
            twin = twins[key]
        else:
            tool = "lazy and KEY=VALUE" if front == LAZY else "train and KEY VALUE"
            raise ConfigError(f"{key}: the run was started from another kind of config; use osal {tool}")
        result += [f"{twin}={value}"] if front == LAZY else [twin, value]
    return result
