"""COCO JSON, with what it lacks in further keys of an image: rank, scores, reason, review."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import DataError
from .batch import PENDING, Request
from .files import json_of, write_texts
from .sheet import Sheet

README = """\
1. Open batch.json and the folder images in your tool.
2. Correct the boxes of each tile: every nucleus gets one, of the right class.
3. Set "review" of each tile under "images" to done, empty or rejected; pending is what nobody looked at.
4. Save, as COCO.
5. {import_command}
"""


def content(request: Request) -> dict:
    """The batch as COCO."""
    ids = {name: index for index, name in enumerate(request.offered, start=1)}
    images, annotations = [], []
    for rank, (key, tile) in enumerate(request.tiles.items(), start=1):
        image = {
            "id": rank,
            "file_name": key,
            "width": tile.width,
            "height": tile.height,
            "rank": rank,
            "scores": dict(tile.ranking),
            "reason": tile.reason,
            "review": PENDING,
        }
        images.append(image | ({"origin": dict(tile.origin)} if tile.origin else {}))
        for name, box, score in tile.drafts:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": rank,
                "category_id": ids[name],
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            annotations.append(annotation | ({} if score is None else {"score": score}))
    return {
        "info": {
            "description": "Tiles to annotate; see README.txt",
            "osal_batch": request.batch,
            "osal_round": request.round_index,
        },
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for name, index in ids.items()],
    }


def write(request: Request, folder: Path) -> None:
    """Write batch.json."""
    write_texts(folder, {"batch.json": json.dumps(content(request), sort_keys=True, indent=1) + "\n"})


def read(files: Mapping[str, bytes], request: Request, where: str) -> list[Sheet]:
    """The one file as it is: `read_coco` checks it."""
    if len(files) != 1:
        raise DataError(f"{where}: holds {len(files)} files; import the COCO JSON itself")
    parsed = json_of(next(iter(files.values())), where)
    info = parsed.get("info") if isinstance(parsed, dict) else None
    batch = info.get("osal_batch") if isinstance(info, dict) else None
    return [
        Sheet(coco=parsed, batch=batch, round_index=info.get("osal_round") if batch is not None else None)
    ]
