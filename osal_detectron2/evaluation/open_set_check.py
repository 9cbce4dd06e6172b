"""Whether the prototypes tell known from unknown nuclei at all, or the open-set part of a run is inert."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..core.extension import folder_of
from ..core.ledger import Ledger
from ..core.round_files import read_scores
from .learning_curve import labelled_counts

MOST = 0.02  # nearly all look alike: fewer than this part look otherwise ...
OF_EXPECTED = 0.2  # ... and fewer than this part of what the labelled tiles let one expect
ENOUGH = 5  # nuclei that were to be expected; with fewer, none is no wonder


def inert(*, known: int, unknown: int, look_known: int, look_unknown: int) -> str | None:
    """ "known" or "unknown" where nearly every detection looks so against what was labelled, else None.

    known, unknown: labelled nuclei. look_known, look_unknown: detections, nearer to the one prototype or the other. The
    labelled tiles say what part may be expected to be unknown: a pool of which 1 % is unknown is no cause for alarm
    where 99 % look known.
    """
    labelled, detected = known + unknown, look_known + look_unknown
    if not labelled or not detected:
        return None
    for kind, part, seen in (("known", unknown, look_unknown), ("unknown", known, look_known)):
        expected = part / labelled
        if expected * detected >= ENOUGH and seen / detected < min(MOST, OF_EXPECTED * expected):
            return kind
    return None


def query_warning(run_folder: str | Path, round_index: int) -> str | None:
    """The warning of the query of a round, from its scores.npz and what was labelled before it; None if all is well.

    Queries whose scores hold no count of known nuclei by the auxiliary detector (n_known) have none.
    """
    run_folder = Path(run_folder)
    scores = read_scores(folder_of(run_folder, round_index))
    if not {"n_known", "n_detected"} <= scores.keys():
        return None
    look_known, detected = (int(np.nansum(scores[name])) for name in ("n_known", "n_detected"))
    return _sentence(
        run_folder,
        before=round_index,
        look_known=look_known,
        look_unknown=detected - look_known,
        what="detections in the pool",
        effect="so the query counts nuclei instead of known nuclei",
    )


def run_warning(run_folder: str | Path, rounds: Iterable[int]) -> str | None:
    """The warning of the latest of these queries that has one, with how many have; None if all is well."""
    said = {number: text for number in rounds if (text := query_warning(run_folder, number))}
    if not said:
        return None
    last = max(said)
    where = f"in round {last}" if len(said) == 1 else f"in {len(said)} rounds, last in round {last}"
    return f"{where}: {said[last]}"


def prediction_warning(run_folder: str | Path, *, look_known: int, look_unknown: int) -> str | None:
    """The same for the detections of `osal predict`; None also where the folder is no run."""
    if not Ledger.exists(run_folder):
        return None
    return _sentence(
        Path(run_folder),
        before=None,
        look_known=look_known,
        look_unknown=look_unknown,
        what="detections",
        effect="so looks_unknown says nothing",
    )


def _sentence(
    run_folder: Path, *, before: int | None, look_known: int, look_unknown: int, what: str, effect: str
) -> str | None:
    header = Ledger.open(run_folder).header
    counts = labelled_counts(run_folder, header["known_classes"], before=before)
    kind = inert(**counts, look_known=look_known, look_unknown=look_unknown)
    if kind is None:
        return None
    other, seen = ("unknown", look_unknown) if kind == "known" else ("known", look_known)
    part = counts[other] / (counts["known"] + counts["unknown"])
    return (
        f"{seen:,} of {look_known + look_unknown:,} {what} look {other} although {100 * part:.0f} % of the "
        f"{sum(counts.values()):,} labelled nuclei are: the prototypes tell nothing apart, {effect}. In a new run set "
        f"{_remedy(header['config'])}"
    )


def _remedy(config: Mapping) -> str:
    margin = config.get("OSAL.PROTOTYPE.MARGIN", 10.0)
    other = f"another OSAL.PROTOTYPE.MARGIN than {margin:g}"
    if config.get("OSAL.PROTOTYPE.TIED_MARGIN"):
        other = "OSAL.PROTOTYPE.TIED_MARGIN False"
    return other if config.get("OSAL.PROTOTYPE.BALANCED") else f"OSAL.PROTOTYPE.BALANCED True, or {other}"
