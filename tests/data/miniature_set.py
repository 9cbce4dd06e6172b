"""Small COCO sets without a fault, for tests to break."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from osal_detectron2.data.checks import check_dataset
from osal_detectron2.data.coco_file import INFO

ROOT = Path(__file__).parents[2]
KNOWN = ["tumor", "lymphocyte"]


class MiniatureSet:
    """Two sets of three noise tiles of 60x40 px with one box of each class; tests break it, then `check`."""

    def __init__(self, folder: Path):
        self.folder = folder
        noise = np.random.default_rng(1)
        self.train, self.test = (self._coco(split) for split in ("train", "test"))
        for data in (self.train, self.test):
            for image in data["images"]:
                self.draw(image["file_name"], noise.integers(0, 256, (40, 60, 3), dtype=np.uint8))

    @staticmethod
    def _coco(split: str) -> dict:
        names = ["tumor", "stroma", "lymphocyte"]
        images = [
            {"id": n, "file_name": f"{split}{n}.png", "width": 60, "height": 40, "group": f"{split}-slide"}
            for n in (1, 2, 3)
        ]
        annotations = [
            {"id": n, "image_id": n, "category_id": n, "bbox": [5.0 + n, 5.0, 10.0, 12.0]} for n in (1, 2, 3)
        ]
        categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def draw(self, name: str, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(self.folder / name)

    def pixels(self, name: str) -> np.ndarray:
        return np.asarray(Image.open(self.folder / name))

    def arguments(self) -> list[str]:
        for split in ("train", "test"):
            (self.folder / f"{split}.json").write_text(json.dumps(getattr(self, split)))
        return [
            "--json", f"{self.folder}/train.json", "--image-root", str(self.folder), "--known", *KNOWN,
            "--other-json", f"{self.folder}/test.json",
        ]  # fmt: skip

    def check(self, known=KNOWN, **options):
        self.arguments()
        return check_dataset(
            f"{self.folder}/train.json",
            str(self.folder),
            known,
            other_json=f"{self.folder}/test.json",
            **options,
        )


def serious(findings) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in findings if finding.level != INFO]


def sound() -> dict:
    """Two tiles; b.png first in the file, without boxes and without a group."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30, "group": "slide-1"},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 30, "bbox": [1, 2, 5, 6]},
            {"id": 2, "image_id": 3, "category_id": 10, "bbox": [2, 2, 5.5, 6], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 20, "bbox": [3, 2, 5, 6], "iscrowd": 0},
        ],
        "categories": [
            {"id": 10, "name": "stroma"},
            {"id": 20, "name": "lymphocyte"},
            {"id": 30, "name": "tumor"},
        ],
    }


def write_set(folder: Path, data: dict, name: str = "set.json") -> str:
    for image in data.get("images", []):
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            Image.new("RGB", (40, 30)).save(folder / Path(image["file_name"]).name)
    (folder / name).write_text(json.dumps(data))
    return str(folder / name)


def parents(boxes, width=100, height=60, name="slide/p.png", **image) -> dict:
    """One image with these xywh boxes, to be cut into tiles."""
    return {
        "images": [{"id": 5, "file_name": name, "width": width, "height": height, **image}],
        "annotations": [
            {"id": row, "image_id": 5, "category_id": 1, "bbox": list(box)}
            for row, box in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "tumor"}],
    }
