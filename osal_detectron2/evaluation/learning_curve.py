"""The learning curve of a run, read back from its folder: what each round cost, found and scored."""

import csv
import io
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from ..core.annotation_cost import AnnotationCost
from ..core.extension import folder_of
from ..core.labels import REJECTED, LabelFile, TileLabels
from ..core.ledger import COMMIT_SCHEMA, Ledger
from ..core.round_files import read_metrics, read_record, read_timing
from ..core.rounds import INIT, round_name
from ..core.store import read_json, write_bytes

SUMMARY = "summary.json"


def read_costs(run_folder: str | Path) -> AnnotationCost:
    """What the run was told that annotation takes. A run of an older version does not say: then 15 and 3 seconds."""
    path = Path(run_folder) / SUMMARY
    told = read_json(path) if path.is_file() else {}
    told = told.get("annotation_seconds") or {} if isinstance(told, dict) else {}
    return AnnotationCost(**{f.name: float(told[f.name]) for f in fields(AnnotationCost) if f.name in told})


def query_counts(tiles: Mapping[str, TileLabels], known_classes: Iterable[str]) -> dict:
    """Count what the oracle found in a query.

    Returns {"tiles", "rejected_tiles", "known", "unknown", "per_class": {name: nuclei}}: tiles asked for and,
    among them, tiles that were rejected (they bring no nuclei); nuclei of known and of all other classes.
    """
    known_classes = set(known_classes)
    per_class = Counter(name for tile in tiles.values() for name in tile.classes)
    known = sum(count for name, count in per_class.items() if name in known_classes)
    return {
        "tiles": len(tiles),
        "rejected_tiles": sum(tile.state == REJECTED for tile in tiles.values()),
        "known": known,
        "unknown": per_class.total() - known,
        "per_class": dict(sorted(per_class.items())),
    }


def read_curve(run_folder: str | Path, costs: AnnotationCost | None = None) -> list[dict]:
    """One row a round that was evaluated or committed, in order; None where a figure does not exist.

    The detector of round r is trained on everything labelled before query r, so a row holds, side by side:

    - round; labelled_tiles, labelled_fraction (of the training tiles), nuclei_annotated (known and unknown,
      the initial set included): what this round's detector was trained on; minutes_annotated: what that took
      people, as measured or by `costs` (None: `read_costs`), rejected tiles included;
    - mAP50, AP, A-OSE, unknown_detected_fraction and AP50-<class> of that detector on the test set;
    - queried_tiles, rejected_tiles, known_queried, unknown_queried (nuclei), purity: this round's query.
      purity = known / (known + unknown), None if the query holds no nucleus;
    - cumulative_known, cumulative_unknown, recall: all queries up to and including this one, without the
      initial set (docs/reproducibility.md row 15); labelled_fraction_after_query, minutes_after_query: their place
      on the x axis.
      recall = cumulative_known / known nuclei in the pool at the start, None if nobody knows those: the
      config in run.json has "train_nuclei": {"known": nuclei in all training tiles} only where labels are;
    - of a run with a budget of nuclei or seconds also budget_spent, what the labels of this round's detector have truly
      cost, budget_planned by then, and query_expected, query_true: what its query was to cost, and did;
    - seconds_<step> for every step in the round's timing.json (which also has the query's passes).

    Only committed queries count: labels without a commit.json may still change. Raises DataError or
    LedgerError, naming the file, for a folder that is no run or a file that is damaged.
    """
    run_folder = Path(run_folder)
    header, costs = Ledger.open(run_folder).header, costs or read_costs(run_folder)
    known_classes, pool_size = header["known_classes"], len(header["pool"])
    tiles = _committed_labels(run_folder / "rounds" / round_name(INIT))
    if tiles is None:
        return []
    initial, seconds = query_counts(tiles, known_classes), sum(map(costs.of, tiles.values()))

    pool_known = (header["config"].get("train_nuclei") or {}).get("known")
    if pool_known is not None:
        pool_known -= initial["known"]
    labelled = initial["tiles"] - initial["rejected_tiles"]
    annotated = initial["known"] + initial["unknown"]
    cumulative_known = cumulative_unknown = 0
    spent = _cost(run_folder / "rounds" / round_name(INIT)).get("true", 0.0)
    rows = []
    for number, folder in _round_folders(run_folder):
        metrics = read_metrics(folder)
        tiles = _committed_labels(folder)
        if metrics is None and tiles is None:
            continue
        row = {"round": number}
        row["labelled_tiles"] = labelled
        row["labelled_fraction"] = _ratio(labelled, pool_size)
        row["nuclei_annotated"] = annotated
        row["minutes_annotated"] = seconds / 60
        row |= _scores(metrics or {}, known_classes)
        row |= dict.fromkeys(
            ("queried_tiles", "rejected_tiles", "known_queried", "unknown_queried", "purity")
        )
        row |= dict.fromkeys(
            ("cumulative_known", "cumulative_unknown", "recall", "labelled_fraction_after_query")
            + ("minutes_after_query",)
        )
        if tiles is not None:
            query = query_counts(tiles, known_classes)
            known, unknown = query["known"], query["unknown"]
            labelled += query["tiles"] - query["rejected_tiles"]
            seconds += sum(map(costs.of, tiles.values()))
            annotated += known + unknown
            cumulative_known += known
            cumulative_unknown += unknown
            row["queried_tiles"], row["rejected_tiles"] = query["tiles"], query["rejected_tiles"]
            row["known_queried"], row["unknown_queried"] = known, unknown
            row["purity"] = _ratio(known, known + unknown)
            row["cumulative_known"], row["cumulative_unknown"] = cumulative_known, cumulative_unknown
            row["recall"] = None if pool_known is None else _ratio(cumulative_known, pool_known)
            row["labelled_fraction_after_query"] = _ratio(labelled, pool_size)
            row["minutes_after_query"] = seconds / 60
        if budget := header.get("budget"):
            row |= {"budget_spent": spent, "budget_planned": budget["init"] + number * budget["query"]}
            cost = _cost(folder)
            row |= {f"query_{kind}": cost.get(kind) for kind in ("expected", "true")}
            spent += cost.get("true", 0.0)
        row |= _seconds(folder)
        rows.append(row)
    return rows


def aulc(
    rows: Sequence[Mapping],
    x: str = "labelled_fraction",
    y: str = "mAP50",
    *,
    within: tuple[float, float] | None = None,
) -> float | None:
    """Area under the learning curve, divided by the x range: the mean of `y` along `x`, in units of `y`.

    Trapezoids between the rows that have both figures. A single point gives its value, none gives None. Only
    runs that cover the same x range can be compared by it: `within` cuts the curve to a part of its range, with the
    values that its lines have at the ends.
    """
    points = sorted((row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None)
    if not points:
        return None
    if within is not None:
        low, high = (min(max(end, points[0][0]), points[-1][0]) for end in within)
        xs, ys = zip(*points)
        ends = [(end, float(np.interp(end, xs, ys))) for end in (low, high)]
        points = [ends[0], *(point for point in points if low < point[0] < high), ends[1]]
    span = points[-1][0] - points[0][0]
    if span == 0:
        return sum(value for _, value in points) / len(points)
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in zip(points, points[1:]))
    return area / span


def shared_range(curves: Iterable[Sequence[Mapping]], x: str, y: str = "mAP50") -> tuple[float, float] | None:
    """The part of `x` that every curve covers with `y`; None where there is none."""
    places = [[r[x] for r in rows if r.get(x) is not None and r.get(y) is not None] for rows in curves]
    if not places or not all(places):
        return None
    low, high = max(map(min, places)), min(map(max, places))
    return (low, high) if low < high else None


def labelled_counts(
    run_folder: str | Path, known_classes: Iterable[str], *, before: int | None = None
) -> dict[str, int]:
    """{"known": nuclei, "unknown": nuclei} in all committed labels, the initial set included; before: a round."""
    run_folder = Path(run_folder)
    earlier = [folder for number, folder in _round_folders(run_folder) if before is None or number < before]
    folders = [run_folder / "rounds" / round_name(INIT), *earlier]
    labels = [tiles for folder in folders if (tiles := _committed_labels(folder)) is not None]
    queries = [query_counts(tiles, list(known_classes)) for tiles in labels]
    return {kind: sum(query[kind] for query in queries) for kind in ("known", "unknown")}


def mean_curve(
    curves: Sequence[Sequence[Mapping]], x: str, y: str
) -> list[tuple[float, float, float | None]]:
    """(mean x, mean y, standard deviation of y) at each round that all curves have both of.

    Rounds that only some have reached are left out: the mean would jump because its runs change.
    """
    tables = [
        {row["round"]: (row[x], row[y]) for row in rows if is_number(row.get(x)) and is_number(row.get(y))}
        for rows in curves
    ]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    points = [list(zip(*(table[number] for table in tables))) for number in shared]
    return [(statistics.fmean(xs), *mean_and_spread(ys)) for xs, ys in points]


def mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of the values that exist; None where there are too few."""
    values = [value for value in values if value is not None]
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def write_csv(rows: Sequence[Mapping], path: str | Path) -> None:
    """Write rows as CSV (UTF-8, comma, empty cell for None), whole or not at all. Raises OutputError."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())


def _round_folders(run_folder: Path) -> list[tuple[int, Path]]:
    folders = (run_folder / "rounds").iterdir()
    numbers = sorted(int(path.name) for path in folders if path.name.isdecimal() and path.is_dir())
    return [(number, folder_of(run_folder, number)) for number in numbers]


def _committed_labels(folder: Path) -> Mapping[str, TileLabels] | None:
    """The labels of a committed round, or None if it has no commit yet."""
    if not (folder / "commit.json").is_file():
        return None
    commit = read_record(folder / "commit.json", COMMIT_SCHEMA)
    # The last round is committed without a query: trained, evaluated, budget spent.
    return LabelFile.read(folder / "labels.json").tiles if commit.get("selected") else {}


def _cost(folder: Path) -> dict:
    """The price of a committed query, where the budget is not of tiles; {} otherwise."""
    path = folder / "commit.json"
    return (read_record(path, COMMIT_SCHEMA) or {}).get("cost", {}) if path.is_file() else {}


def _scores(metrics: dict, known_classes: list[str]) -> dict:
    bbox, open_set = metrics.get("bbox") or {}, metrics.get("open_set") or {}
    # A zero that nothing could have raised is no figure.
    if (metrics.get("counts") or {}).get("known_nuclei") == 0:
        bbox = {}
    if open_set.get("unknown_total") == 0:
        open_set = {}
    scores = {name: _finite(bbox.get(name)) for name in ("mAP50", "AP")}
    scores |= {name: _finite(open_set.get(name)) for name in ("A-OSE", "unknown_detected_fraction")}
    return scores | {f"AP50-{name}": _finite(bbox.get(f"AP50-{name}")) for name in known_classes}


def _seconds(folder: Path) -> dict[str, float]:
    steps = sorted(read_timing(folder).items())
    return {f"seconds_{step}": float(value) for step, value in steps if isinstance(value, int | float)}


def _finite(value):
    return value if value is not None and math.isfinite(value) else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
