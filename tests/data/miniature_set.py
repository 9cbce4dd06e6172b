"""Two small COCO sets without a fault, for the tests of the data-set check to break."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from osal_detectron2.data.checks import check_dataset

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
