"""Tiles with their boxes: inline SVG on a small JPEG, or on a grey ground where the image is not there."""

from collections.abc import Mapping, Sequence

from ..evaluation.boxes import LOOKS_UNKNOWN, UNKNOWN_CLASS, Look, look_of
from ..evaluation.gallery import answered, detected, scores_in_words
from .html import Child, Markup, details, table, tag
from .pictures import Pictures, data_uri
from .record import Query

PER_QUERY, IN_ALL = 12, 120  # tiles with pictures
UNKNOWN_MARK = "u"


def query_tiles(query: Query, number: int, known: Sequence[str], pictures: Pictures, name: str) -> Child:
    """The first `number` tiles of a query with pictures, reasons and scores, and all of them as a table."""
    shown = query.selected[:number]
    cards = [_card(query, rank, key, known, pictures, f"{name}-{rank}") for rank, key in enumerate(shown, 1)]
    gone = sum(pictures.look(key) is None for key in shown)
    said = []
    if len(shown) < len(query.selected):
        said.append(f"These are the first {len(shown)} of {len(query.selected)} tiles; the table has all.")
    if gone:
        said.append(f"The images of {gone} of these tiles were not found, so their boxes stand alone.")
    if not query.labels:
        said.append("They wait for their labels.")
    rows = [_row(query, rank, key, known) for rank, key in enumerate(query.selected, 1)]
    titles = ("place", "tile", "state", "known nuclei", "other nuclei", "why it was chosen")
    listed = table(f"All tiles: {query.name}", titles, rows, words=(1, 2, 5))
    return [
        tag("p", " ".join(said)) if said else None,
        tag("div", cards, cls="tiles"),
        details("All tiles as a table", listed),
    ]


def key_of_boxes(known: Sequence[str]) -> Markup:
    """What boxes and their marks mean."""
    looks = [(look_of(i), _mark(name, known), name.replace("_", " ")) for i, name in enumerate(known)]
    looks.append((look_of(None), UNKNOWN_MARK, UNKNOWN_CLASS))
    looks.append((look_of(0, dashed=True), "dashed", f"{LOOKS_UNKNOWN} to the auxiliary detector"))
    items = []
    for look, mark, words in looks:
        box = [tag("rect", width=30, height=16, cls="gone"), boxes([[4, 3, 22, 10]], [look], [], [], 30)]
        sign = tag("svg", box, viewBox="0 0 30 16", aria_hidden="true")
        items.append(tag("li", sign, tag("strong", mark), f" {words}"))
    return tag("ul", items, cls="key")


def boxes(
    places: Sequence[Sequence[float]],
    looks: Sequence[Look],
    marks: Sequence[str],
    titles: Sequence[str],
    width: float,
) -> list[Markup]:
    """Boxes (x, y, w, h) on a black rim, one path a look, with a mark at the corner of each."""
    paths: dict[Look, str] = {}
    for place, look in zip(places, looks):
        paths[look] = paths.get(look, "") + _path(place)
    drawn = [tag("path", d="".join(paths.values()), cls="rim")] if paths else []
    for look, path in paths.items():
        color = f"#{bytes(look.color).hex()}"
        drawn.append(tag("path", d=path, stroke=color, cls="box dashed" if look.dashed else "box"))
    size = width / 30
    letters = [
        tag("text", mark, tag("title", title), x=f"{x + size / 6:.4g}", y=f"{y + size:.4g}")
        for (x, y, _, _), mark, title in zip(places, marks, titles)
    ]
    if letters:
        drawn.append(tag("g", letters, cls="mark", font_size=f"{size:.4g}", stroke_width=f"{size / 4:.3g}"))
    return drawn


def _card(query: Query, rank: int, key: str, known: Sequence[str], pictures: Pictures, name: str) -> Markup:
    answer, found = query.labels.get(key), query.found.get(key)
    shown = [answered(answer, known)]
    titles = [shown[0]["labels"]]
    if found:
        shown.append(detected(found, known))
        titles.append([f"{c}, score {s:.2f}" for c, s in zip(found["classes"], found["scores"])])
    picture, seen = pictures.open(key), pictures.look(key)
    corners = [[x + w, y + h] for one in shown for x, y, w, h in one["boxes"]]
    size = (seen.width, seen.height) if seen else tuple(max(side) for side in zip(*corners, (1, 1)))
    drawn = []
    for index, (one, words) in enumerate(zip(shown, titles)):
        if picture is None:
            ground = tag("rect", width=size[0], height=size[1], cls="gone")
        elif index:
            ground = tag("use", href=f"#{name}")  # the picture is in the page once
        else:
            ground = tag("image", id=name, href=data_uri(picture), width=size[0], height=size[1])
        marks = [_mark(label, known) for label in one["labels"]]
        heading = one["heading"] + ("" if picture else " (no picture)")
        drawing = tag(
            "svg",
            tag("title", f"{key}, {heading}"),
            ground,
            boxes(one["boxes"], one["looks"], marks, words, size[0]),
            viewBox=f"0 0 {size[0]:g} {size[1]:g}",
            role="img",
        )
        drawn.append(tag("figure", drawing, tag("figcaption", heading)))
    reason = query.reasons.get(key, "")
    return tag(
        "article",
        tag("h4", f"{rank}. {key}"),
        tag("div", drawn, cls="pair"),
        tag("p", reason) if reason else None,
        tag("p", scores_in_words(query.scores.get(key, {}), reason), cls="small"),
        _scores(found) if found and found["classes"] else None,
        cls="tile",
    )


def _scores(found: Mapping) -> Markup:
    """The scores of the detections, by class, the highest first."""
    by_class: dict[str, list[float]] = {}
    for name, score in zip(found["classes"], found["scores"]):
        by_class.setdefault(name, []).append(score)
    lines = [
        tag("li", f"{name}: {', '.join(f'{s:.2f}' for s in sorted(scores, reverse=True))}")
        for name, scores in sorted(by_class.items())
    ]
    return details("Scores of the detections", tag("ul", lines))


def _row(query: Query, rank: int, key: str, known: Sequence[str]) -> list[Child]:
    labels = query.labels.get(key)
    if labels is None:
        return [rank, key, "not labelled yet", "-", "-", query.reasons.get(key, "")]
    inside = sum(name in known for name in labels.classes)
    state = labels.state.replace("_", " ")
    return [rank, key, state, inside, len(labels.classes) - inside, query.reasons.get(key, "")]


def _mark(name: str, known: Sequence[str]) -> str:
    return str(known.index(name) + 1) if name in known else UNKNOWN_MARK


def _path(place: Sequence[float]) -> str:
    x, y, w, h = (f"{v:.6g}" for v in place)
    return f"M{x} {y}h{w}v{h}h-{w}z"
