"""The page of one run: `report.html`, made of the files of its folder and the images of its tiles."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.annotation_cost import AnnotationCost
from ..core.labels import LABELLED, REJECTED, REVIEWED_EMPTY
from ..core.rounds import INIT
from ..core.store import write_bytes
from ..evaluation.open_set_check import run_warning
from ..evaluation.palette import BLACK, class_color
from ..evaluation.table import cell, gain, legend
from ..oracles.opinions import agreement_of
from ..oracles.timed import timed_tiles
from .agreement import agreement_section
from .chart import Line, line_chart
from .html import Child, details, facts, note, page, table, tag
from .nuclei import least_certain
from .people import time_of_annotators
from .pictures import Pictures
from .pool_map import map_of_pool
from .record import RunRecord
from .style import colours
from .tiles import IN_ALL, PER_QUERY, key_of_boxes, query_tiles

REPORT = "report.html"
Sections = list[tuple[str, str, Child]]


class RunPage:
    """The page of a run. Making it reads everything and raises LedgerError or DataError; `write` writes.

    files, root: see `Pictures`.
    """

    def __init__(
        self,
        run_folder: str | Path,
        costs: AnnotationCost | None = None,
        *,
        files: Mapping[str, str] | None = None,
        root: str | Path | None = None,
    ) -> None:
        self.record = RunRecord.read(run_folder, costs)
        self.pictures = Pictures(self.record.folder, files=files, root=root)
        header = self.record.header
        title = f"{header['strategy']}, seed {header['seed']}: {', '.join(header['known_classes'])}"
        self.html = page(
            title,
            lead(self.record),
            run_sections(self.record, self.pictures),
            colours=page_colours(self.record),
        )

    def write(self) -> Path:
        """Write report.html into the run's folder, and what was seen of the tiles beside it. Raises OutputError."""
        self.pictures.keep()
        path = self.record.folder / REPORT
        write_bytes(path, self.html)
        return path


def run_sections(record: RunRecord, pictures: Pictures) -> Sections:
    """(name, title, content) of each part of the page, in order."""
    sections: Sections = [
        ("quality", "Quality and cost", quality(record)),
        ("classes", "Classes", classes(record)),
    ]
    if record.asked:
        sections.append(("tiles", "Tiles that were asked for", queries(record, pictures)))
        sections.append(("map", "Map of the pool", map_of_pool(record, pictures)))
        sections.append(("nuclei", "Least certain nuclei", least_certain(record, pictures)))
    labels = [label for query in record.queries for label in query.labels.values()]
    people = time_of_annotators(labels, timed_tiles(record.folder), record.costs)
    sections.append(("people", "Annotators", people))
    if (found := agreement_of([record.folder])) is not None:
        sections.append(("agreement", "Agreement", agreement_section(found)))
    return [*sections, ("record", "Record", ledger(record))]


def page_colours(record: RunRecord) -> str:
    """Line 0 is the mean, line 1 + c that of class c."""
    lines = [BLACK, *(class_color(i, on_paper=True) for i in range(len(record.known_classes)))]
    return colours(lines, len(record.asked))


def lead(record: RunRecord) -> Child:
    """The figures that a reader wants first, what was gained, and what is wrong."""
    rows, last = record.rows, record.rows[-1] if record.rows else {}
    queried = [row for row in rows if row.get("cumulative_known") is not None]
    known, unknown = (queried[-1][f"cumulative_{kind}"] if queried else 0 for kind in ("known", "unknown"))
    scored = [row for row in rows if row["mAP50"] is not None]
    minutes = last.get("minutes_after_query")
    minutes = last.get("minutes_annotated") if minutes is None else minutes
    shown = facts(
        [
            ("mAP50 of the known classes", f"{scored[-1]['mAP50']:.1f} %" if scored else ""),
            ("minutes of annotation", cell(minutes, ",.0f") if minutes is not None else ""),
            ("tiles labelled", len(_labels(record, LABELLED, REVIEWED_EMPTY)) or ""),
            ("tiles in the pool", f"{len(record.header['pool']):,}"),
            ("purity of the queries", f"{known / (known + unknown):.2f}" if known + unknown else ""),
            ("rounds", f"{len(rows)} of {len(record.header['plan'])}"),
        ]
    )
    notes = [note(text) for text in _warnings(record)]
    return [shown, tag("p", gain(rows)) if rows else None, notes]


def quality(record: RunRecord) -> Child:
    """mAP50, A-OSE and purity against minutes, and their table."""
    rows, known = record.rows, record.known_classes
    if not rows:
        return tag("p", "No round was finished yet.")
    minutes = "minutes of annotation"
    mean = Line("mAP50, mean of the classes", _points(rows, "minutes_annotated", "mAP50"), 0, strong=True)
    each = [(i, name, _points(rows, "minutes_annotated", f"AP50-{name}")) for i, name in enumerate(known, 1)]
    lines = [mean, *(Line(f"AP50 {name}", points, i) for i, name, points in each if points)]
    purity = [(x, 100 * y) for x, y in _points(rows, "minutes_after_query", "purity")]
    charts = [
        line_chart(
            "precision",
            lines if mean.points else [],
            title="Average precision",
            description="Average precision at IoU 0.5 on the test tiles, against the time that labelling took.",
            x=minutes,
            y="AP50, %",
        ),
        line_chart(
            "purity",
            [Line("purity", purity, 0)],
            title="Purity",
            description="Known nuclei among all nuclei of each query: what part of the work went to wanted classes.",
            x=minutes,
            y="known nuclei, %",
            top=100,
        ),
        line_chart(
            "aose",
            [Line("A-OSE", _points(rows, "minutes_annotated", "A-OSE"), 0)],
            title="Unknown taken for known",
            description="A-OSE: unknown nuclei of the test tiles that the detector takes for a known class.",
            x=minutes,
            y="A-OSE",
        ),
    ]
    columns = (
        ("round", "round", "d"),
        (minutes, "minutes_annotated", ",.1f"),
        ("tiles", "labelled_tiles", ",d"),
        ("nuclei", "nuclei_annotated", ",d"),
        ("mAP50, %", "mAP50", ".1f"),
        ("A-OSE", "A-OSE", "d"),
        ("tiles asked for", "queried_tiles", "d"),
        ("known nuclei in them", "known_queried", ",d"),
        ("other nuclei", "unknown_queried", ",d"),
        ("purity", "purity", ".2f"),
    )
    body = [[cell(row.get(key), form) for _, key, form in columns] for row in rows]
    return [
        tag("div", charts, cls="charts"),
        table(
            "Each round: what its detector learnt from, its quality, its query",
            [t for t, _, _ in columns],
            body,
            words=(),
        ),
        tag("p", legend(record.costs).replace("\n", " "), cls="small"),
    ]


def classes(record: RunRecord) -> Child:
    """AP50 of each known class by round, and the nuclei that were labelled of every class."""
    known, scored = record.known_classes, [row for row in record.rows if row["mAP50"] is not None]
    parts: list[Child] = []
    if scored:
        titles = ("class", *(f"round {row['round']}" for row in scored))
        body = [[name, *(cell(row.get(f"AP50-{name}"), ".1f") for row in scored)] for name in known]
        body.append(["mean (mAP50)", *(cell(row["mAP50"], ".1f") for row in scored)])
        parts.append(table("AP50 of each known class on the test tiles, %", titles, body))
    counts = [Counter(n for t in query.labels.values() for n in t.classes) for query in record.asked]
    names = sorted({name for count in counts for name in count} - set(known))
    rows = [
        [name, kind, *(f"{count[name]:,}" for count in counts), f"{sum(count[name] for count in counts):,}"]
        for kind, listed in (("known", known), ("other", names))
        for name in listed
    ]
    titles = ("class", "wanted", *(query.name for query in record.asked), "in all")
    if record.asked:
        parts.append(table("Labelled nuclei of each class", titles, rows, words=(0, 1)))
    return parts or tag("p", "Nothing is labelled yet.")


def queries(record: RunRecord, pictures: Pictures) -> Child:
    """Each query: pictures of its first tiles, and all of them in a table. The latest comes first."""
    number = max(1, min(PER_QUERY, IN_ALL // len(record.asked)))
    parts: list[Child] = [
        tag(
            "p",
            "Each tile with what people said (or the hidden truth, in a simulation), and with what the detector that "
            "asked for it had found there. A number at a box is its class:",
        ),
        key_of_boxes(record.known_classes),
    ]
    latest = record.asked[-1]
    for query in reversed(record.asked):
        tiles = query_tiles(query, number, record.known_classes, pictures, f"t{query.round_index}")
        title = f"{query.name.capitalize()}, {len(query.selected)} tiles"
        parts += [tag("h3", title), tiles] if query is latest else [details(title, tiles)]
    return parts


def ledger(record: RunRecord) -> Child:
    """The chain of commits, and what the run was started with."""
    rows = []
    for query in record.queries:
        states = Counter(label.state for label in query.labels.values())
        known = query.labels or not query.selected
        rows.append(
            [
                "first tiles" if query.round_index == INIT else f"round {query.round_index}",
                len(query.selected),
                *(states[state] if known else "-" for state in (LABELLED, REVIEWED_EMPTY, REJECTED)),
                tag("code", query.commit[:12]) if query.commit else "open",
                tag("code", query.previous[:12]) if query.previous else "-",
            ]
        )
    titles = ("round", "tiles", "with nuclei", "empty", "rejected", "hash of its commit", "hash before it")
    header = record.header
    versions = ", ".join(f"{name} {value}" for name, value in sorted(header.get("versions", {}).items()))
    pairs = [
        ("strategy", header["strategy"]),
        ("seed", header["seed"]),
        ("planned tiles", ", ".join(map(str, header["plan"]))),
        ("hash of the data set", header["dataset_sha256"][:12]),
        ("made with", versions),
    ]
    return [
        tag(
            "p",
            "Every round is final once it is committed. A commit holds the hashes of its files and of the commit "
            "before it, so that nothing can be changed unseen: ",
            tag("code", "osal run verify"),
            " checks it.",
        ),
        table("The ledger", titles, rows, words=(0, 5, 6))
        if rows
        else tag("p", "No round is committed yet."),
        details("What the run was started with", facts(pairs)),
    ]


def _points(rows: Sequence[Mapping], x: str, y: str) -> list[tuple[float, float]]:
    return [(row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None]


def _labels(record: RunRecord, *states: str) -> list:
    return [t for query in record.queries for t in query.labels.values() if t.state in states]


def _warnings(record: RunRecord) -> list[str]:
    said = []
    if record.rows and all(row["mAP50"] is None for row in record.rows):
        said.append(
            "Nobody knows how good the detector is: there are no labelled test tiles with known nuclei. So it cannot "
            "be said either whether another batch is worth its time."
        )
    said += [f"The latest evaluation says: {flag}." for flag in record.flags]
    if warning := run_warning(record.folder, (row["round"] for row in record.rows)):
        said.append(f"{warning[0].upper()}{warning[1:]}.")
    return said
