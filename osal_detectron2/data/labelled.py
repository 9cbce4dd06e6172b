"""From the committed labels of tiles to records that a detector can be trained on."""

from collections.abc import Mapping, Sequence

from ..core.errors import ConfigError
from ..core.labels import REJECTED, TileLabels

_XYWH_ABS = 1  # detectron2's BoxMode.XYWH_ABS


def labelled_records(
    records: Mapping[str, dict], labels: Mapping[str, TileLabels], *, known_classes: Sequence[str]
) -> list[dict]:
    """The labelled tiles with the annotations that `labels` say and no other, sorted by key; rejected tiles are out.

    records: by image key (data/coco.py). Nuclei of other than the K known classes have category_id K.
    Raises ConfigError if none of the tiles holds a known nucleus.
    """
    ids = {name: i for i, name in enumerate(known_classes)}
    result = []
    for key, tile in sorted(labels.items()):
        if tile.state == REJECTED:
            continue
        annotations = [
            {
                "bbox": list(box),
                "bbox_mode": _XYWH_ABS,
                "category_id": ids.get(name, len(ids)),
                "category_name": name,
                "iscrowd": 0,
            }
            for box, name in zip(tile.boxes, tile.classes)
        ]
        result.append({**records[key], "annotations": annotations})
    if not any(a["category_id"] < len(ids) for r in result for a in r["annotations"]):
        raise ConfigError(
            f"none of the {len(result)} labelled tiles holds a nucleus of the known classes "
            f"({', '.join(known_classes)}): raise OSAL.BUDGET.INIT_FRACTION or check KNOWN_CLASSES"
        )
    return result
