"""A run that takes more rounds than it was started with: its plan grows, and nothing that is committed changes.

The new plan stands in `extension.json` of the first round that is not committed yet; the commit of that round covers
it by a hash, as it covers the round's labels. The last round of a plan is committed without a query. Where it is
committed already, the query that it now gets stands in a folder of its own, `rounds/002+/`: a second commit of round 2,
chained to the first, with the same metrics, that takes its place in everything that follows.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import LedgerError
from .rounds import INIT, round_name
from .store import atomic_path, read_json, write_json

EXTENSION = "extension.json"
EXTENSION_SCHEMA = "osal-extension/1"
AGAIN = "+"  # behind the name of a round: its second commit
QUERIES = "OSAL.BUDGET.NUM_QUERIES"


def folder_of(run: Path, round_index: str | int) -> Path:
    """The folder of a round, the second one where the run was extended after the round was committed."""
    first = run / "rounds" / round_name(round_index)
    second = second_folder(run, round_index)
    return second if (second / EXTENSION).is_file() else first


def second_folder(run: Path, round_index: str | int) -> Path:
    """Where the second commit of a round stands, if there is one."""
    return run / "rounds" / f"{round_name(round_index)}{AGAIN}"


def read_extension(folder: Path) -> dict | None:
    """extension.json in the folder of a round, None without. Raises DataError or LedgerError for a damaged one."""
    path = folder / EXTENSION
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != EXTENSION_SCHEMA:
        raise LedgerError(f"{path}: is not of schema {EXTENSION_SCHEMA}; restore it from a copy")
    return content


def extended(header: Mapping, run: Path) -> dict:
    """The header of a run with the plan, and the number of queries, as its extensions have made them."""
    header = {**header, "config": dict(header.get("config", {}))}
    for path in sorted((run / "rounds").glob(f"*/{EXTENSION}"), key=_place):
        if (content := read_extension(path.parent)) is not None:
            header["plan"] = content.get("plan", [])
            header["config"] |= content.get("config", {})
    return header


def _place(path: Path) -> tuple:
    name = path.parent.name
    return name != INIT, name


def refusal(old: Sequence[int], new: Sequence[int], *, pool: int) -> str | None:
    """Why a run with the plan `old` cannot go on with the plan `new`; None if it can. Plans hold labelled tiles."""
    if len(new) < len(old):
        return (
            f"{QUERIES}: the run is planned for {len(old) - 1} queries and cannot be cut to {len(new) - 1}; a plan "
            "only grows. Stop the run when it has enough: every round that is finished is whole"
        )
    if list(new[: len(old)]) != list(old):
        return f"plan: {list(old)} -> {list(new)}; only {QUERIES} may grow"
    if len(new) == len(old) and old[-1] == pool:
        return (
            f"{QUERIES}: all {pool} tiles of the pool are planned for; there is none left for another query"
        )
    return None


def write_extension(
    run: Path, *, open_round: str | int | None, last: int, plan: Sequence[int], queries: int
) -> None:
    """Make `plan` hold. open_round: the first without a commit; None if `last`, the last one, is committed.

    A kill leaves the old plan or the new one: extension.json is written last.
    """
    folder = second_folder(run, last) if open_round is None else folder_of(run, open_round)
    if open_round is None:
        first = run / "rounds" / round_name(last)
        for name in ("metrics.json", "timing.json"):
            if (first / name).is_file():
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(first / name, temporary)
    content = {
        "schema": EXTENSION_SCHEMA,
        "plan": list(plan),
        "config": {QUERIES: queries, "plan": list(plan)},
    }
    write_json(folder / EXTENSION, content)
