"""Where a campaign stands, in words, and the one command that comes next."""

from __future__ import annotations

import math
import shlex

from ..core.ledger import Ledger
from ..core.round_files import read_metrics
from ..core.rounds import INIT
from ..oracles.progress import BatchStatus, batch_status
from .folder import FIRST_RECORD, TEST_RECORD, Campaign
from .label_studio import known_address
from .times import describe_times
from .training import awaited, planned


def campaign_status(campaign: Campaign) -> str:
    """Some lines of text. Raises LedgerError or DataError where a record cannot be read."""
    settings = campaign.settings
    first, test = campaign.record(FIRST_RECORD), campaign.record(TEST_RECORD)
    lines = [
        f"campaign  {campaign.folder}: {', '.join(settings.known)} among {', '.join(settings.classes)}; sittings of "
        f"{settings.minutes:g} minutes",
        f"tiles     {len(first.header['pool'])} to choose from ({campaign.slides['pool']} slides), "
        f"{test.header['plan'][0]} to measure on ({campaign.slides['test']} "
        f"{'other ' if campaign.apart else ''}slides)",
    ]
    if campaign.left_out:
        out = ", ".join(f"{n} {why}" for why, n in campaign.left_out.items())
        lines.append(f"left out  tiles: {out}")
    lines += [f"note      {note}" for note in campaign.notes]
    lines += [f"first     {_record(first)}", f"test set  {_record(test)}"]
    lines += [f"training  {text}" for text in _training(campaign)]
    if times := describe_times(campaign):
        lines.append(f"time      {times}")
    lines += [f"unclear   {text}" for text in _cannot_say(campaign, test)]
    return "\n".join([*lines, f"next      {next_command(campaign)}"])


def next_command(campaign: Campaign) -> str:
    """The command that comes next, with the reason behind it."""
    folder = shlex.quote(str(campaign.folder))
    first = campaign.record(FIRST_RECORD)
    run = Ledger.exists(campaign.run)
    waiting = awaited(campaign)
    needed = campaign.run if run else campaign.folder / FIRST_RECORD
    last = Ledger.open(campaign.run).last_committed if run else None
    if isinstance(last, int) and last >= planned(campaign):
        if waiting:  # only the test set can be left
            return f"{_ask(campaign)}   # the test tiles are not labelled yet"
        return (
            f"osal campaign next {folder} --batches {planned(campaign) + 1}   # one batch more; or stop here"
        )
    test_open = not campaign.record(TEST_RECORD).is_committed(INIT)
    if needed in waiting or (test_open and campaign.folder / TEST_RECORD in waiting and not run):
        return f"{_ask(campaign)}   # then label, and give it again"
    why = "takes the labels in, and trains" if first.is_committed(INIT) is False else "trains"
    return f"osal campaign next {folder}   # {why}"


def _ask(campaign: Campaign) -> str:
    """How people's answers come in; where they only disagree, how that is settled."""
    folder = shlex.quote(str(campaign.folder))
    for record in awaited(campaign):
        status = batch_status(record)
        if status is not None and status.disputes and not status.pending_keys:
            return f"osal run prefer {shlex.quote(str(record))} NAME"
    address = known_address(campaign.folder)
    if address:
        return f"osal campaign sync {folder}"
    return f"osal campaign sync {folder} --label-studio http://localhost:8080"


def _record(ledger: Ledger) -> str:
    """One of the two records in words."""
    if ledger.is_committed(INIT):
        labels = ledger.labels()
        nuclei = sum(len(tile.boxes) for tile in labels.values())
        return f"{len(labels)} tiles labelled and in the record, {nuclei} nuclei"
    status = batch_status(ledger.folder)
    return _batch(status) if status else "was never asked for: the record is damaged (osal campaign verify)"


def _batch(status: BatchStatus) -> str:
    if status.complete:
        return f"all {len(status.states)} tiles are labelled; not yet in the record"
    answered = len(status.states) - len(status.pending_keys) - len(status.disputes)
    disputed = f", {len(status.disputes)} in dispute" if status.disputes else ""
    return f"{answered} of {len(status.states)} tiles labelled{disputed}; left: {status.left}"


def _training(campaign: Campaign) -> list[str]:
    if not Ledger.exists(campaign.run):
        return ["has not begun"]
    ledger = Ledger.open(campaign.run)
    last, plan = ledger.last_committed, ledger.header["plan"]
    rounds = last + 1 if isinstance(last, int) else 0
    lines = [f"{rounds} of {len(plan)} rounds finished, {len(ledger.labelled_keys())} tiles to train on"]
    scores = []
    for number in range(len(plan)):
        metrics = read_metrics(ledger.round_dir(number)) or {}
        value = (metrics.get("bbox") or {}).get("mAP50")
        if isinstance(value, (int, float)) and math.isfinite(value):
            scores.append(f"{value:.1f} in round {number}")
    if scores:
        lines.append(f"mAP50 of the known classes on the test tiles: {', '.join(scores)}")
    batch = batch_status(campaign.run)
    if batch is not None and not batch.complete:
        lines.append(f"batch of round {batch.round_index}: {_batch(batch)}")
    return lines


def _cannot_say(campaign: Campaign, test: Ledger) -> list[str]:
    """What cannot be said so far, and why."""
    if not test.is_committed(INIT):
        return [
            "how good the detector is: the test tiles are not labelled. Rounds that end before are never measured, nor "
            "is it known then whether another batch is worth its time"
        ]
    if not any(name in campaign.settings.known for t in test.labels().values() for name in t.classes):
        return ["how good the detector is: the test tiles hold no nucleus of a known class"]
    if not campaign.apart:
        return [
            "how good the detector is on a new slide: the test tiles come from the slides that it is trained on"
        ]
    return []
