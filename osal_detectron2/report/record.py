"""What a run's folder says, read once for its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.annotation_cost import AnnotationCost
from ..core.extension import folder_of
from ..core.labels import TileLabels
from ..core.ledger import Ledger
from ..core.round_files import read_detections, read_metrics, tile_scores
from ..core.rounds import INIT, next_round
from ..core.store import sha256_file
from ..evaluation.learning_curve import read_costs, read_curve


@dataclass(frozen=True)
class Query:
    """The tiles that a round asked for, in order. labels: what was answered, {} before the commit. found: detections on
    the first of them, as detections.json has them. scores: of each tile, by name. commit: hash of commit.json."""

    round_index: str | int
    selected: Sequence[str]
    reasons: Mapping[str, str]
    labels: Mapping[str, TileLabels]
    found: Mapping[str, Mapping]
    scores: Mapping[str, Mapping[str, float]]
    commit: str = ""
    previous: str = ""

    @property
    def name(self) -> str:
        """In words."""
        return "first tiles" if self.round_index == INIT else f"query of round {self.round_index}"

    @property
    def first_detected(self) -> int:
        """Of how many of its first tiles the detections were kept."""
        return sum(key in self.found for key in self.selected)


@dataclass(frozen=True)
class RunRecord:
    """header: run.json. rows: the learning curve. queries: of all committed rounds, and the open one that waits for
    labels. flags: what the latest evaluation says that a reader must know."""

    folder: Path
    header: Mapping
    costs: AnnotationCost
    rows: Sequence[Mapping]
    queries: Sequence[Query]
    flags: Sequence[str]

    @classmethod
    def read(cls, folder: str | Path, costs: AnnotationCost | None = None) -> "RunRecord":
        """Raises LedgerError or DataError, naming the file, for a folder that is no run or that is damaged."""
        folder = Path(folder)
        ledger, costs = Ledger.open(folder), costs or read_costs(folder)
        rows, labels, queries = read_curve(folder, costs), ledger.labels(), []
        last = None
        for commit in ledger.commits():
            last = commit["round"]
            queries.append(_query(ledger, last, commit["selected"], labels, commit["previous"]))
        waiting = ledger.selection(next_round(last))
        if waiting is not None and waiting["selected"]:
            queries.append(_query(ledger, next_round(last), waiting["selected"], {}))
        metrics = [read_metrics(folder_of(folder, row["round"])) or {} for row in rows]
        flags = next((m["flags"] for m in reversed(metrics) if m.get("flags")), [])
        return cls(folder, ledger.header, costs, rows, queries, flags)

    @property
    def known_classes(self) -> list[str]:
        return self.header["known_classes"]

    @property
    def asked(self) -> list[Query]:
        """The queries that asked for a tile; the last round asks for none."""
        return [query for query in self.queries if query.selected]


def _query(
    ledger: Ledger, round_index: str | int, selected: Sequence[str], labels: Mapping, previous: str = ""
) -> Query:
    folder = ledger.round_dir(round_index)
    reasons = (ledger.selection(round_index) or {}).get("reasons", {})
    commit = folder / "commit.json"
    return Query(
        round_index,
        selected,
        reasons,
        {key: labels[key] for key in selected if key in labels},
        read_detections(folder),
        tile_scores(folder),
        sha256_file(commit) if commit.is_file() else "",
        previous,
    )
