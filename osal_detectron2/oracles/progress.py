"""Where a batch stands: which tiles have an answer that counts, and what the others will cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY
from ..core.ledger import Ledger
from ..core.rounds import next_round
from ..exchange.batch import DISPUTED, PENDING, Request
from .answers import Answers
from .cost import Cost, mean_nuclei


@dataclass(frozen=True)
class BatchStatus:
    """Of the batch in the folder `query`.

    states: by image key, in the suggested order; "pending" without an answer, "disputed" where annotators disagree.
    cost: of the whole batch; left: of the pending tiles. disputes: who disagrees on what, by image key.
    """

    round_index: str | int
    query: Path
    states: Mapping[str, str]
    cost: Cost
    left: Cost
    disputes: Mapping[str, str]

    @property
    def pending_keys(self) -> list[str]:
        """Tiles that nobody has answered, in the suggested order."""
        return [key for key, state in self.states.items() if state == PENDING]

    @property
    def complete(self) -> bool:
        """Whether every tile has an answer that counts."""
        return not self.pending_keys and not self.disputes

    @property
    def counts(self) -> dict[str, int]:
        """Tiles in each state; "disputed" only if there are any."""
        states = list(self.states.values())
        order = (LABELLED, REVIEWED_EMPTY, REJECTED, *([DISPUTED] if DISPUTED in states else []), PENDING)
        return {state: states.count(state) for state in order}


def status_of(query: Path, request: Request) -> BatchStatus:
    """The status of the batch in the folder `query`.

    Where nothing was labelled when it was put, the answers so far say how many nuclei the others hold.
    """
    answers = Answers.read(query, request.batch)
    states = {key: answers.state(key) for key in request.tiles}
    mean = mean_nuclei(label for key in request.tiles if (label := answers.label(key)))
    seconds = {
        "seconds_per_tile": request.seconds_per_tile,
        "seconds_per_nucleus": request.seconds_per_nucleus,
    }

    def cost(keys: Iterable[str]) -> Cost:
        asked = (request.tiles[key].nuclei for key in keys)
        return Cost.of([mean if nuclei is None else nuclei for nuclei in asked], **seconds)

    left = cost([key for key, state in states.items() if state == PENDING])
    disputes = {key: answers.dispute(key) for key, state in states.items() if state == DISPUTED}
    return BatchStatus(request.round_index, query, states, cost(request.tiles), left, disputes)


def batch_status(run_folder: str | Path) -> BatchStatus | None:
    """The batch that the run waits for, complete or not; None if no question is open. Raises LedgerError."""
    ledger = Ledger.open(run_folder)
    query = ledger.round_dir(next_round(ledger.last_committed)) / "query"
    request = Request.read(query)
    return None if request is None else status_of(query, request)
