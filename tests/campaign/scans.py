"""Made-up scans: pink tissue with dark nuclei, a part without tissue, and a copy of a part."""

import json

import numpy as np
from PIL import Image

CLASSES, KNOWN = ("tumor", "lymphocyte", "plasma"), ("tumor", "lymphocyte")
SIDE, TILE = 256, 128


def tissue(seed, *, nuclei=60):
    """(SIDE, SIDE, 3) uint8 and the boxes [(class, (x, y, w, h))]."""
    random = np.random.default_rng(seed)
    picture = np.full((SIDE, SIDE, 3), (225, 170, 200), dtype=float)
    picture += random.normal(0, 6, (SIDE, SIDE, 1)) - 25 * np.linspace(0, (seed % 3) / 2, SIDE)[None, :, None]
    boxes, (rows, columns) = [], np.mgrid[:SIDE, :SIDE]
    for _ in range(nuclei):
        x, y, kind = *random.uniform(8, SIDE - 8, 2), int(random.integers(3))
        radius = (7, 4, 5)[kind]
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        picture[inside] = ((110, 60, 140), (60, 30, 110), (130, 60, 90))[kind]
        boxes.append((CLASSES[kind], (x - radius, y - radius, 2.0 * radius, 2.0 * radius)))
    return picture.clip(0, 255).astype(np.uint8), boxes


def write_scans(folder, *, number=5):
    """`number` scans slide0.png ...; the last quarter of slide0 is glass, that of slide1 is its first once more.

    Returns truth.json, COCO of all nuclei, beside the folder.
    """
    folder.mkdir(parents=True)
    images, annotations = [], []
    for scan in range(number):
        picture, boxes = tissue(scan)
        if scan == 0:
            picture[TILE:, TILE:] = 244
            boxes = [b for b in boxes if b[1][0] < TILE - 16 or b[1][1] < TILE - 16]
        if scan == 1:
            picture[TILE:, TILE:] = picture[:TILE, :TILE]
        Image.fromarray(picture).save(folder / f"slide{scan}.png")
        images.append({"id": scan, "file_name": f"slide{scan}.png", "width": SIDE, "height": SIDE})
        for name, box in boxes:
            row = {
                "id": len(annotations),
                "image_id": scan,
                "category_id": CLASSES.index(name),
                "bbox": list(box),
            }
            annotations.append({**row, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    truth = folder.parent / "truth.json"
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return truth
