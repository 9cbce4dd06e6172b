"""`osal COMMAND ...`: which commands there are, and what they have in common: help, errors, exit codes.

A new command is a line of COMMANDS and a function `name(parser)` in a file of this folder: it adds its arguments and
says `parser.set_defaults(call=function)`. `function(args)` does the work; it returns an exit code, or None for 0, and
raises OSALError for what the user can mend. The file imports what it needs within that function, so that help is
quick and works without numpy, torch and Detectron2.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..core.errors import OSALError
from ..core.spelling import spelled, typed
from ..quiet import quiet

# Name -> (file:function, what it does in one line). The name of a group is the first of two words.
COMMANDS = {
    "train": ("train:train", "train, evaluate, query, annotate, in rounds"),
    "lazy": ("train:lazy", "the same from a LazyConfig"),
    "predict": ("predict:predict", "find nuclei in images: COCO detections, GeoJSON for QuPath, overlays"),
    "export": ("export:export", "take the detector out of a run: plain Detectron2, TorchScript"),
    "data config": ("data_config:config", "write a commented config for your tiles and this machine"),
    "data tile": ("data_tile:tile", "cut the large images of a COCO data set into tiles"),
    "data check": ("data_check:check", "say what in a COCO data set would break a run or mislead its reader"),
    "data nucls": ("data_nucls:nucls", "turn the NuCLS release into COCO JSON with folds"),
    "data synthetic": ("data_synthetic:synthetic", "render a made-up nucleus set in the layout of NuCLS"),
    "run status": ("run_record:status", "where a run stands, and what to type next"),
    "run why": ("run_record:why", "scores, place and reason of one tile"),
    "run verify": ("run_record:verify", "check every file of the record; exit 1 with findings"),
    "run cost": (
        "run_record:cost",
        "what a tile, a nucleus and a draft cost, by the times that a tool measured",
    ),
    "run export": ("run_labels:export", "write the waiting batch for an annotation tool"),
    "run import": ("run_labels:take", "take the labels that people made into the waiting batch"),
    "run prefer": ("run_labels:prefer", "say whose answers count where annotators disagree"),
    "run agreement": (
        "run_agreement:agreement",
        "how far annotators agree: F1 and kappa per class and pair, tiles to discuss",
    ),
    "run report": ("run_report:report", "rebuild the report of one run, or compare several"),
    "run detections": ("run_detections:detections", "draw what the final detectors of several runs find"),
    "campaign init": ("campaign:begin", "begin a campaign from a bare folder of images and some class names"),
    "campaign status": ("campaign:status", "where a campaign stands, and what to type next"),
    "campaign next": ("campaign:go_on", "take what is labelled, train, and ask for the next batch"),
    "campaign sync": ("campaign:sync", "put what waits into Label Studio, and fetch what is done"),
    "campaign verify": ("campaign:verify", "check every record of a campaign; exit 1 with findings"),
    "study annotators": (
        "study:annotators",
        "how the annotators of a pilot err, as a config that simulates them",
    ),
    "study size": ("study:size", "what reaching an mAP50 takes, and how many pairs show a difference"),
    "benchmark": ("benchmark:benchmark", "run a grid of methods x settings x folds x seeds"),
    "plot": ("plot:plot", "draw the figures and tables of a benchmark"),
}
INTERRUPTED = 130  # the exit code of shells for SIGINT

quiet()  # here, so that started processes, which import this file again, are quiet as well


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            for length in (2, 1):
                name = " ".join(words[:length])
                if name in COMMANDS:
                    return _call(name, words[length:])
            return _overview(words)
        finally:
            sys.stdout.flush()  # here, where a reader that has gone can still be minded
    except BrokenPipeError:  # of `osal ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _call(name: str, words: list[str]) -> int:
    target, summary = COMMANDS[name]
    module, function = target.split(":")
    parser = argparse.ArgumentParser(
        prog=typed(name),
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    getattr(importlib.import_module(f".{module}", __package__), function)(parser)
    parser.epilog = spelled(parser.epilog or "")
    for action in parser._actions:
        action.help = action.help and spelled(action.help)
    parser.set_defaults(command=parser.prog, words=words)
    args = parser.parse_intermixed_args(words)
    try:
        return args.call(args) or 0
    except OSALError as error:
        print(f"error: {spelled(str(error))}", file=sys.stderr)
        return 1
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == __package__.partition(".")[0]:
            raise
        missing = isinstance(error, ModuleNotFoundError)
        text = (
            f"{parser.prog} needs {package}, which this Python lacks (docs/install.md)" if missing else error
        )
        print(f"error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED


def _overview(words: list[str]) -> int:
    """The commands, or those of a group; for anything else one line that says what was meant."""
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    rest = words[1:] if group else words
    if not rest or rest[0] in ("-h", "--help"):
        names = [name for name in COMMANDS if not group or name.startswith(f"{group} ")]
        shown = [spelled(f"osal {name}") for name in names]
        lines = [spelled(f"usage: osal {group or 'COMMAND'} ..."), ""]
        lines += [f"  {text:{max(map(len, shown))}}  {COMMANDS[name][1]}" for text, name in zip(shown, names)]
        print("\n".join([*lines, "", f"`{shown[0]} --help` and its like say more."]))
        return 0 if rest else 2
    if rest == ["--version"] and not group:
        print(f"osal_detectron2 {__version__}")
        return 0
    tried = " ".join(words[: 2 if group else 1])
    near = difflib.get_close_matches(tried, COMMANDS, n=1)
    hint = f"do you mean osal {near[0]}?" if near else f"osal {group + ' ' if group else ''}--help lists them"
    print(spelled(f"error: osal {tried} is no command; {hint}"), file=sys.stderr)
    return 2
