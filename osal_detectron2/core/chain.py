"""The commits of a run, each with the hash of the file that came before it."""

from __future__ import annotations

from pathlib import Path

from .errors import LedgerError
from .extension import folder_of, second_folder
from .rounds import INIT, next_round, round_name
from .store import read_json, sha256_file

COMMIT_SCHEMA = "osal-commit/1"


def read_chain(run: Path) -> list[dict]:
    """The commits in order, "init" first; of a round with two the second. Raises LedgerError where the chain breaks."""
    chain, last = [], None
    while (path := folder_of(run, next_round(last)) / "commit.json").is_file():
        last = next_round(last)
        if path.parent == second_folder(run, last):
            _read(run / "rounds" / round_name(last) / "commit.json", last, _previous(run, last))
        chain.append(_read(path, last, before(run, last)))
    later = sorted(p.parent.name for p in (run / "rounds").glob("*/commit.json"))
    known = {name for commit in chain for name in _names(run, commit["round"])}
    if folder_of(run, next_round(last)) == second_folder(run, next_round(last)):
        known.add(round_name(next_round(last)))  # committed as the last round, and open again since
    if strays := [name for name in later if name not in known]:
        raise LedgerError(
            f"{run}: round {strays[0]} is committed, but the round before it is not; restore "
            f"{folder_of(run, next_round(last)) / 'commit.json'} from a copy"
        )
    return chain


def before(run: Path, round_index: str | int) -> Path:
    """The file whose hash the commit of `round_index` holds."""
    if folder_of(run, round_index) == second_folder(run, round_index):
        return run / "rounds" / round_name(round_index) / "commit.json"
    return _previous(run, round_index)


def _previous(run: Path, round_index: str | int) -> Path:
    if isinstance(round_index, str):  # INIT
        return run / "run.json"
    return folder_of(run, INIT if round_index == 0 else round_index - 1) / "commit.json"


def _names(run: Path, round_index: str | int) -> set[str]:
    return {round_name(round_index), folder_of(run, round_index).name}


def _read(path: Path, round_index: str | int, previous: Path) -> dict:
    commit = read_json(path)
    if (
        not isinstance(commit, dict)
        or commit.get("schema") != COMMIT_SCHEMA
        or commit.get("round") != round_index
    ):
        raise LedgerError(f"{path}: is not the commit of round {round_index}; restore the run from a copy")
    if commit["previous"] != sha256_file(previous):
        raise LedgerError(
            f"{path}: was made after another version of {previous.parent.name if round_index != INIT else 'run.json'}; "
            "something was changed or copied in by hand. Restore the run from a copy (osal run verify lists all "
            "faults)"
        )
    return commit
