"""Detections as GeoJSON that QuPath opens (0.3 or later: drop the file on the image, or File > Import objects)."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.palette import class_color
from ..exchange.geojson import rectangle


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
        color = class_color(label)
        features.append(rectangle((x0, y0, x1, y1), name=classes[label], color=color, measurements=finite))
    return {"type": "FeatureCollection", "features": features}
