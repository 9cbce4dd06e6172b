"""Detections as GeoJSON that QuPath opens (0.3 or later: drop the file on the image, or File > Import objects)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.palette import class_colour, rgb


def feature_collection(table: Mapping[str, np.ndarray], classes: Sequence[str]) -> dict:
    """A FeatureCollection with a rectangle for each detection, in pixels.

    table: boxes (n, 4) xyxy, scores, classes (n,) and any further (n,) columns, which become measurements of the same
    name. A value that is not finite (looks_unknown of a nucleus that the auxiliary detector did not find) is left out.
    """
    columns = [name for name in table if name not in ("boxes", "classes", "scores")]
    features = []
    for row, (box, label) in enumerate(zip(table["boxes"].tolist(), table["classes"].tolist())):
        x0, y0, x1, y1 = (round(value, 2) for value in box)
        values = {"score": table["scores"][row], **{name: table[name][row] for name in columns}}
        finite = {name: float(value) for name, value in values.items() if np.isfinite(value)}
        colour = class_colour(label)
        features.append(rectangle((x0, y0, x1, y1), name=classes[label], colour=colour, measurements=finite))
    return {"type": "FeatureCollection", "features": features}


def rectangle(
    corners: Sequence[float],
    *,
    name: str,
    colour: str,
    kind: str = "detection",
    measurements: Mapping[str, float] | None = None,
) -> dict:
    """A Feature for the rectangle x0, y0, x1, y1 of the class `name`, colour as "#RRGGBB".

    kind: "detection", which QuPath only shows, or "annotation", which it lets people edit.
    """
    x0, y0, x1, y1 = corners
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": kind,
            "classification": {"name": name, "color": list(rgb(colour))},
            "measurements": {key: round(value, 6) for key, value in (measurements or {}).items()},
        },
    }
