"""Everybody's answers of a run, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..core.agreement import Agreement, ClassAgreement, PairAgreement, agreement
from ..core.labels import TileLabels
from ..evaluation.table import cell, markdown_table
from ..exchange.batch import Request
from .answers import Answers

MOST_TILES = 20  # that are listed


def opinions(run_folder: str | Path) -> dict[str, Mapping[str, TileLabels]]:
    """{tile: {annotator: her latest answer}} of all batches of a run. Raises DataError or LedgerError."""
    found: dict[str, Mapping[str, TileLabels]] = {}
    for query in sorted(Path(run_folder).glob("rounds/*/query")):
        request = Request.read(query)
        if request is not None:
            answers = Answers.read(query, request.batch)
            found |= {tile: given for tile in request.tiles if (given := answers.of(tile))}
    return found


def agreement_of(run_folders: Iterable[str | Path]) -> Agreement | None:
    """How far the annotators of these run folders agree; None where no tile has two answers.

    For a report: `.as_json()` has all figures, `describe_agreement` the same in Markdown.
    """
    together: dict[str, Mapping[str, TileLabels]] = {}
    for folder in run_folders:
        together |= opinions(folder)
    return agreement(together)


def describe_agreement(found: Agreement | None) -> str:
    """Tables in Markdown; "-" for a figure that is undefined."""
    if found is None:
        return (
            "No tile was answered by two people. Import a second file with another --annotator NAME, or submit a task "
            "of Label Studio as another user."
        )
    everybody = ", ".join(f"{name} ({tiles} tiles)" for name, tiles in found.annotators.items())
    lines = [f"Annotators: {everybody}", ""]
    classes = [(name, *_cells(c)) for name, c in found.classes.items()]
    lines += [
        markdown_table(("class", "boxes", "matched", "F1", "kappa"), [*classes, ("all", *_cells(found.all))])
    ]
    lines += ["", "Who agrees least:", "", markdown_table(_PAIR, [_pair(pair) for pair in found.pairs])]
    if any(pair.kappa is None for pair in found.pairs):
        lines += ["", "No kappa (-): the two have no nucleus in common, or call all of them by one class."]
    if found.mixed_up:
        lines += ["", "Nuclei that two people call differently:", ""]
        rows = [(f"{a} or {b}", str(n)) for (a, b), n in found.mixed_up.items()]
        lines += [markdown_table(("classes", "nuclei"), rows)]
    if found.tiles:
        lines += ["", "Tiles to discuss, those with most differences first:", ""]
        lines += [f"- {tile.tile}: {'; '.join(tile.words)}" for tile in found.tiles[:MOST_TILES]]
        if (more := len(found.tiles) - MOST_TILES) > 0:
            lines.append(f"- and {more} more")
    return "\n".join(lines)


_PAIR = ("annotators", "tiles", "boxes", "matched", "F1 by place", "F1 with class", "kappa")


def _cells(of: ClassAgreement) -> tuple[str, ...]:
    return f"{of.first} + {of.second}", str(of.matched), cell(of.f1, ".3f"), cell(of.kappa, ".3f")


def _pair(pair: PairAgreement) -> tuple[str, ...]:
    boxes = " + ".join(map(str, pair.boxes))
    figures = (cell(value, ".3f") for value in (pair.f1_place, pair.f1, pair.kappa))
    return (
        f"{pair.first} and {pair.second}",
        str(pair.tiles),
        boxes,
        str(pair.matched.total()),
        *figures,
    )
