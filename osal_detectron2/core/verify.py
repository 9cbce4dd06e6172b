"""Replay the record of a run from its files and list every fault, for an audit or after a disk trouble."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import OSALError
from .extension import AGAIN, EXTENSION, read_extension, refusal, second_folder
from .labels import LabelFile
from .ledger import COMMIT_SCHEMA, HASHED_FILES, Ledger
from .rounds import INIT, budget_of, next_round, round_name
from .store import read_json, sha256_file


def verify(folder: str | Path) -> list[str]:
    """The faults of the run in `folder`, one sentence each that begins with the file; [] for a sound run.

    Checked: the chain of hashes, every hashed file, rounds without a gap, selections disjoint, inside the
    pool and within the plan, labels for exactly the selected tiles, states as committed. A hash chain shows
    that nothing changed since the *next* commit; whoever rewrites the last round with its hash is not seen.
    """
    folder = Path(folder)
    try:
        ledger = Ledger.open(folder)
        pool, plan = ledger.header["pool"], read_json(folder / "run.json")["plan"]
    except OSALError as error:
        return [str(error)]
    except KeyError as error:
        return [f"{folder / 'run.json'}: entry {error} is missing"]

    findings: list[str] = []
    if pool != sorted(set(pool)):
        findings.append(f"{folder / 'run.json'}: the pool is not a sorted list of distinct tiles")
    names = {p.parent.name for p in (folder / "rounds").glob("*/commit.json")}
    numbers = sorted(int(name) for name in names if re.fullmatch(r"\d{3,}", name))
    last = numbers[-1] if numbers else INIT if INIT in names else None
    rounds = {round_name(number) for number in numbers}
    if strange := sorted(names - {INIT} - rounds - {f"{name}{AGAIN}" for name in rounds}):
        findings.append(
            f"{folder / 'rounds' / strange[0]}: is not a round of this run, but has a commit.json"
        )

    previous_file: Path | None = folder / "run.json"
    owner: dict[str, str | int] = {}
    round_index: str | int | None = None
    while last is not None and round_index != last:
        round_index = next_round(round_index)
        first, second = folder / "rounds" / round_name(round_index), second_folder(folder, round_index)
        for path in [first / "commit.json", *([second / "commit.json"] if second.is_dir() else [])]:
            if not path.is_file():
                if (
                    path.parent == first or round_index != last
                ):  # else the run was extended, and this query is not made yet
                    findings.append(f"{path}: is missing, but a later round is committed")
                    previous_file = None
                continue
            try:
                longer, faults = _longer_plan(path.parent, plan, len(pool))
                plan, findings = longer, findings + faults
                priced = "budget" in ledger.header  # in nuclei or seconds: any number of tiles
                most = len(pool) if priced else budget_of(plan, round_index)
                findings += _verify_round(path, round_index, previous_file, owner, set(pool), most)
                if path.parent == second and (_hashes(first) != _hashes(second)):
                    findings.append(f"{second / 'metrics.json'}: is not that of {first}")
            except (OSALError, KeyError, TypeError, AttributeError) as error:
                reason = str(error) if isinstance(error, OSALError) else f"{path}: malformed ({error!r})"
                findings.append(reason)
            previous_file = path
    return findings


def _longer_plan(folder: Path, plan: list[int], pool: int) -> tuple[list[int], list[str]]:
    """The plan from this round on, and the faults of its extension.json."""
    content = read_extension(folder)
    if content is None:
        return plan, []
    if reason := refusal(plan, content["plan"], pool=pool):
        return plan, [f"{folder / EXTENSION}: {reason}"]
    return content["plan"], []


def _hashes(folder: Path) -> str | None:
    return read_json(folder / "commit.json")["files"].get("metrics.json")


def _verify_round(
    path: Path,
    round_index: str | int,
    previous_file: Path | None,
    owner: dict[str, str | int],
    pool: set[str],
    budget: int,
) -> list[str]:
    """The faults of one committed round; `owner` (tile -> round) is extended by its tiles."""
    commit, folder, findings = read_json(path), path.parent, []
    if commit["schema"] != COMMIT_SCHEMA or commit["round"] != round_index:
        return [f"{path}: is not the commit of round {round_index}"]
    if previous_file is not None and commit["previous"] != sha256_file(previous_file):
        findings.append(
            f"{path}: the chain is broken: {previous_file} is not the file it was committed after"
        )

    selected = commit["selected"]
    if len(selected) != len(set(selected)):
        findings.append(f"{path}: a tile is selected twice")
    for key in selected:
        if key not in pool:
            findings.append(f"{path}: tile {key} is not in the pool of run.json")
        if key in owner:
            findings.append(f"{path}: tile {key} was selected in round {owner[key]} already")
        owner.setdefault(key, round_index)
    if len(selected) > budget:
        findings.append(f"{path}: {len(selected)} tiles are selected, the plan gives {budget}")

    files = commit["files"]
    for name in ("selection.json", "labels.json"):
        if name not in files:
            findings.append(f"{path}: has no hash of {name}")
    for name in sorted(set(HASHED_FILES) | set(files)):
        present = (folder / name).is_file()
        if name in files and not present:
            findings.append(f"{folder / name}: is missing")
        elif name in files and sha256_file(folder / name) != files[name]:
            findings.append(f"{folder / name}: changed after the round was committed")
        elif name not in files and present:
            findings.append(f"{folder / name}: appeared after the round was committed")

    if (folder / "selection.json").is_file() and read_json(folder / "selection.json").get(
        "selected"
    ) != selected:
        findings.append(f"{folder / 'selection.json'}: does not list the tiles of commit.json")
    if (folder / "labels.json").is_file():
        tiles = LabelFile.read(folder / "labels.json").tiles
        for key in sorted(set(tiles) ^ set(selected)):
            reason = "has labels but was not selected" if key in tiles else "was selected but has no labels"
            findings.append(f"{folder / 'labels.json'}: tile {key} {reason}")
        for key in sorted(set(tiles) & set(selected)):
            if tiles[key].state != commit["states"].get(key):
                findings.append(
                    f"{folder / 'labels.json'}: tile {key} is {tiles[key].state}, "
                    f"but was committed as {commit['states'].get(key)}"
                )
    return findings
