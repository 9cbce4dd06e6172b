"""How far people agree who labelled the same tiles."""

from ..core.agreement import Agreement, ClassAgreement
from ..evaluation.table import cell
from .html import Child, details, table, tag


def agreement_section(found: Agreement) -> Child:
    """Tables per class and per pair, what is taken for what, and the tiles to discuss."""
    classes = [(name, *_cells(of)) for name, of in found.classes.items()]
    titles = ("class", "boxes", "matched", "F1", "kappa")
    pairs = [
        (
            f"{pair.first} and {pair.second}",
            pair.tiles,
            " + ".join(map(str, pair.boxes)),
            pair.matched.total(),
            cell(pair.f1_place, ".3f"),
            cell(pair.f1, ".3f"),
            cell(pair.kappa, ".3f"),
        )
        for pair in found.pairs
    ]
    of_pairs = ("annotators", "tiles", "boxes", "matched", "F1 by place", "F1 with class", "kappa")
    mixed = [(f"{a} or {b}", n) for (a, b), n in found.mixed_up.items()]
    discuss = [(tile.tile, tile.nuclei, "; ".join(tile.words)) for tile in found.tiles]
    return [
        tag(
            "p",
            "On the tiles that two people labelled. F1: 2 x matched boxes / boxes of both, matched at IoU 0.5 with the "
            "same class (by place: whatever the class). Kappa: of the classes of nuclei that both marked, corrected "
            "for chance; - where it is undefined.",
        ),
        table("Agreement of each class", titles, [*classes, ("all", *_cells(found.all))]),
        table("Agreement of each pair of people, the least first", of_pairs, pairs),
        table("Nuclei that two people call differently", ("classes", "nuclei"), mixed) if mixed else None,
        details(
            f"Tiles to discuss ({len(discuss)})",
            table("Tiles on which people differ", ("tile", "nuclei", "in what"), discuss, words=(0, 2)),
        )
        if discuss
        else tag("p", "They agree on every tile."),
    ]


def _cells(of: ClassAgreement) -> tuple[str, ...]:
    return f"{of.first} + {of.second}", str(of.matched), cell(of.f1, ".3f"), cell(of.kappa, ".3f")
