"""The nuclei that the detector was least sure of, as crops, with what people said of them."""

from collections.abc import Sequence

from ..core.boxes import pairwise_iou_xywh
from ..core.labels import REJECTED
from ..evaluation.boxes import look_of
from .html import Child, Markup, note, tag
from .pictures import Pictures, data_uri
from .record import Query, RunRecord
from .tiles import boxes

MOST = 24
SAME_IOU = 0.5
LEAST_SIDE = 40  # pixels of a crop


def least_certain(record: RunRecord, pictures: Pictures) -> Child:
    """Crops of the detections of the latest query that kept any, those with the lowest scores first."""
    kept = [query for query in record.asked if query.found]
    if not kept:
        return note(
            "The detections of no query were kept. OSAL.EVAL.GALLERY_TILES above 0 keeps those on the first tiles of "
            "each."
        )
    query = kept[-1]
    found = [
        (score, key, index)
        for key in query.selected
        for index, score in enumerate(query.found.get(key, {}).get("scores", ()))
    ]
    lowest = next(iter(query.found.values()))["score_thresh"]
    words = (
        f"The detections with the lowest scores, of those with {lowest:g} or more on the first {query.first_detected} "
        f"tiles of the {query.name}: by the detector that asked for them, before they were labelled."
    )
    if not found:
        return tag("p", f"{words} There was none.")
    crops = [
        _crop(query, key, index, record.known_classes, pictures) for _, key, index in sorted(found)[:MOST]
    ]
    return [tag("p", words), tag("ul", crops, cls="crops")]


def _crop(query: Query, key: str, index: int, known: Sequence[str], pictures: Pictures) -> Markup:
    found = query.found[key]
    box, name, score = found["boxes"][index], found["classes"][index], found["scores"][index]
    picture = pictures.open(key)
    side = max(LEAST_SIDE, 2.2 * max(box[2:]))
    corner = [box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2]
    if picture is not None:
        side = min(side, *picture.size)
        corner = [min(max(at, 0), whole - side) for at, whole in zip(corner, picture.size)]
    x, y, width = (round(v) for v in (*corner, side))
    drawn = [tag("rect", width=width, height=width, cls="gone")]
    if picture is not None:
        crop = picture.crop((x, y, x + width, y + width))
        drawn = [tag("image", href=data_uri(crop, side=128), width=width, height=width)]
    look = look_of(known.index(name), dashed=found["looks_unknown"][index] is True)
    inner = [box[0] - x, box[1] - y, *box[2:]]
    unsure = {True: "; looks unknown", False: "; looks known"}.get(found["looks_unknown"][index], "")
    words = f"{name}, score {score:.2f}{unsure}"
    svg = tag(
        "svg",
        tag("title", f"{words}, in {key}"),
        drawn,
        boxes([inner], [look], [], [], width),
        viewBox=f"0 0 {width} {width}",
        role="img",
    )
    said = tag("span", _said(query, key, box), cls="small")
    return tag("li", svg, words, tag("br"), said)


def _said(query: Query, key: str, box: Sequence[float]) -> str:
    labels = query.labels.get(key)
    if labels is None:
        return "not labelled yet"
    if labels.state == REJECTED:
        return "the tile was rejected"
    overlap = pairwise_iou_xywh([box], labels.boxes)[0]
    if not len(overlap) or overlap.max() < SAME_IOU:
        return "labelled: no nucleus here"
    return f"labelled: {labels.classes[int(overlap.argmax())]}"
