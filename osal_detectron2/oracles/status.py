"""Where a run stands and what to type next, in a few lines of text."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.budget import amount, price_in_words, spent_so_far
from ..core.ledger import Ledger
from ..core.rounds import next_round
from ..core.run_config import CAMPAIGN, LAZY, OWN, config_file
from .exchange import describe_disputes
from .progress import BatchStatus, batch_status


def run_status(folder: str | Path) -> str:
    """A summary of the run in `folder`. Raises LedgerError or DataError where it cannot be read."""
    ledger = Ledger.open(folder)
    header, commits = ledger.header, ledger.commits()
    plan, last = header["plan"], commits[-1]["round"] if commits else None
    states = Counter(state for commit in commits for state in commit["states"].values())
    finished = isinstance(last, int) and last >= len(plan) - 1
    lines = [
        f"run       {ledger.folder}",
        f"strategy  {header['strategy']} (seed {header['seed']})",
        f"known     {', '.join(header['known_classes'])}",
        f"rounds    {_rounds(last)} of {len(plan)} finished; planned: {_planned(header)}",
        *_budget(ledger, commits),
        f"tiles     {len(ledger.labelled_keys())} to train on, {len(ledger.pool_keys())} in the pool",
        "labels    "
        + (", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet"),
    ]
    batch = None if finished else batch_status(folder)
    if finished:
        lines.append("awaited   nothing: the run is complete")
    elif batch is None:
        lines.append(f"awaited   training, up to the end of round {_running(last)}")
    elif batch.complete:
        lines.append(f"awaited   training: all labels of round {batch.round_index} are in")
    else:
        counts = ", ".join(f"{count} {state}" for state, count in batch.counts.items())
        lines.append(f"awaited   labels for round {batch.round_index}: {counts}")
        if batch.pending_keys:
            lines.append(f"left      {batch.left}")
        lines += describe_disputes(batch.disputes)
        lines.append(f"          read {batch.query / 'README.txt'}")
    return "\n".join([*lines, *_next_command(ledger.folder, finished, batch, front=header["front"])])


def _rounds(last: None | str | int) -> int:
    return last + 1 if isinstance(last, int) else 0


def _running(last: None | str | int) -> int:
    following = next_round(last)
    return following if isinstance(following, int) else 0


def _next_command(folder: Path, finished: bool, batch: BatchStatus | None, *, front: str) -> list[str]:
    run = shlex.quote(str(folder))
    if finished:
        return [f"next      osal run verify {run}"]
    campaign = front == CAMPAIGN or (folder.parent / "campaign.json").is_file()
    if batch is not None and batch.pending_keys and campaign:
        return [f"next      osal campaign sync {shlex.quote(str(folder.parent))}"]
    if batch is not None and not batch.complete:
        command = "import" if batch.pending_keys else "prefer"
        return [f"next      osal run {command} {run} {'YOUR_FILE' if batch.pending_keys else 'NAME'}"]
    if campaign:
        return [f"next      osal campaign next {shlex.quote(str(folder.parent))}"]
    if front == OWN:
        return ["next      start your own training script again, with resume=True"]
    config = "" if config_file(folder).is_file() else "--config-file YOUR_CONFIG "
    lazy = front == LAZY
    tool, where = ("lazy", f"train.output_dir={run}") if lazy else ("train", f"OUTPUT_DIR {run}")
    return [f"next      osal {tool} {config}--resume {where}"]


def _planned(header: Mapping) -> str:
    if budget := header.get("budget"):
        return f"{amount(budget['init'], budget['unit'])}, then {amount(budget['query'], budget['unit'])} a query"
    return f"{', '.join(map(str, header['plan']))} tiles"


def _budget(ledger: Ledger, commits: Sequence[Mapping]) -> list[str]:
    """What is spent of a budget that is not of tiles, and what the open query is expected to cost."""
    if not (budget := ledger.header.get("budget")):
        return []
    whole = budget["init"] + (len(ledger.header["plan"]) - 1) * budget["query"]
    lines = [f"budget    {spent_so_far(commits):,.0f} of {amount(whole, budget['unit'])} spent"]
    now = next_round(commits[-1]["round"] if commits else None)
    if cost := (ledger.selection(now) or {}).get("cost"):
        lines.append(f"query     of round {now}: {price_in_words(cost)}")
    return lines
