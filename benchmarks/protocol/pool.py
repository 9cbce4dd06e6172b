"""The cached images as arrays: proposals, nuclei and regions of a set of images, in a common feature space."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from osal_detectron2.core.errors import DataError
from osal_detectron2.core.seeding import generator

from .precision import overlaps

# benchmarks/protocol.md: bought by everybody beforehand, and for tuning alone.
LOCALISER_IMAGES = ("train_9", "train_12", "train_14", "train_16")
VALIDATION_IMAGES = ("train_2", "train_6", "train_21", "train_22", "train_24")
KNOWN = {
    "3_4": ("inflammatory", "malignant_epithelial", "fibroblast"),
    "2_5": ("inflammatory", "malignant_epithelial"),
}
SPLITS = ("validation", "official", "resampled")


def split_images(names: list[str], split: str, seed: int) -> tuple[list[str], list[str]]:
    """(images of the pool, images of the test) out of all `names`.

    "validation": for tuning; "official": CoNSeP's own test images; "resampled": as many of each, drawn by `seed`.
    """
    free = sorted(set(names) - set(LOCALISER_IMAGES))
    train = [n for n in free if n.startswith("train")]
    test = [n for n in free if n.startswith("test")]
    if split == "validation":
        return [n for n in train if n not in VALIDATION_IMAGES], list(VALIDATION_IMAGES)
    if split == "official":
        return train, test
    if split == "resampled":
        order = [free[i] for i in generator("screening split", seed).permutation(len(free))]
        return sorted(order[: len(train)]), sorted(order[len(train) :])
    raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Standardised features, their leading principal components at unit variance: fitted to the pool without labels."""

    parts: tuple[str, ...]
    mean: np.ndarray
    projection: np.ndarray

    @classmethod
    def fit(cls, images: list[dict], parts: tuple[str, ...], *, dim: int, shrink: float) -> "FeatureSpace":
        """`shrink`: the variance that is added to every component before it is divided by its root."""
        raw = np.concatenate([_stack(image, parts, "") for image in images])
        mean, std = raw.mean(axis=0), raw.std(axis=0) + 1e-6
        raw = (raw - mean) / std
        values, vectors = np.linalg.eigh(raw.T @ raw / len(raw))
        top = np.argsort(-values)[:dim]
        projection = vectors[:, top] / np.sqrt(values[top] + shrink) / std[:, None]
        return cls(parts=parts, mean=mean, projection=projection.astype(np.float32))

    def __call__(self, image: dict, prefix: str = "") -> np.ndarray:
        return ((_stack(image, self.parts, prefix) - self.mean) @ self.projection).astype(np.float32)


def _stack(image: dict, parts: tuple[str, ...], prefix: str) -> np.ndarray:
    columns = [image[prefix + part].astype(np.float32) for part in parts]
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class Scene:
    """Proposals (n), nuclei (m) and regions (R) of some images, those of an image one after another.

    x (n, D), boxes (n, 4), score, tightness (n,): of the localiser. nucleus_x (m, D), nucleus_class (m,): the known
    classes 0 .. K-1 and K, unknown. label (n,): the class of the nucleus that a proposal overlaps most, K + 1 for
    background. region, nucleus_region: the region that has the centre, -1 for none. pairs: see `precision.overlaps`.
    region_image (R,): the index of its image; keys (R,): names; region_feature (R, 320), or
    (R, 0) where none is cached for this side.
    """

    x: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    tightness: np.ndarray
    label: np.ndarray
    region: np.ndarray
    nucleus_x: np.ndarray
    nucleus_class: np.ndarray
    nucleus_region: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]
    keys: list[str]
    region_image: np.ndarray
    region_feature: np.ndarray
    known: tuple[str, ...]

    @property
    def num_known(self) -> int:
        return len(self.known)

    @cached_property
    def counts(self) -> np.ndarray:
        """(R, K + 1) nuclei of each class in each region, as people would mark them."""
        table = np.zeros((len(self.keys), self.num_known + 1), dtype=int)
        inside = self.nucleus_region >= 0
        np.add.at(table, (self.nucleus_region[inside], self.nucleus_class[inside]), 1)
        return table

    @cached_property
    def proposals_of(self) -> list[np.ndarray]:
        """Rows of the proposals of each region."""
        order = np.argsort(self.region, kind="stable")
        bounds = np.searchsorted(self.region[order], np.arange(len(self.keys) + 1))
        return [order[a:b] for a, b in zip(bounds, bounds[1:])]


def build_scene(
    images: dict[str, dict], space: FeatureSpace, known: tuple[str, ...], *, side: int | None
) -> Scene:
    """`side` of the regions in pixels; None: no regions, for test images."""
    parts: dict[str, list] = {
        f: [] for f in Scene.__dataclass_fields__ if f not in ("pairs", "keys", "known")
    }
    box_at, nucleus_at, region_at = 0, 0, 0
    pairs, keys = [], []
    for index, (name, image) in enumerate(images.items()):
        classes = np.array(
            [known.index(c) if c in known else len(known) for c in image["gt_class"]], dtype=int
        )
        box, nucleus, iou = overlaps(image["boxes"], image["gt_boxes"])
        label = np.full(len(image["boxes"]), len(known) + 1)
        order = np.argsort(iou, kind="stable")  # the largest is written last
        label[box[order]] = classes[nucleus[order]]
        pairs.append((box + box_at, nucleus + nucleus_at, iou))
        grid = region_grid(*image["size"], side) if side else np.zeros((0, 4), np.float32)
        keys += [f"{name}_x{int(x):06d}_y{int(y):06d}_s{side}" for x, y, *_ in grid]
        rows = {
            "x": space(image),
            "boxes": image["boxes"],
            "score": image["score"],
            "tightness": image["tightness"],
            "label": label,
            "region": _region_of(image["boxes"], grid, region_at),
            "nucleus_x": space(image, "gt_"),
            "nucleus_class": classes,
            "nucleus_region": _region_of(image["gt_boxes"], grid, region_at),
            "region_image": np.full(len(grid), index),
            "region_feature": image.get(f"region_feature_{side}", np.zeros((len(grid), 0), np.float32)),
        }
        for field, values in rows.items():
            parts[field].append(values)
        box_at, nucleus_at, region_at = box_at + len(label), nucleus_at + len(classes), region_at + len(grid)
    return Scene(
        **{field: np.concatenate(values) for field, values in parts.items()},
        pairs=tuple(np.concatenate(column) for column in zip(*pairs)),
        keys=keys,
        known=known,
    )


def region_grid(width: int, height: int, side: int) -> np.ndarray:
    """(R, 4) xyxy of the square regions of a grid without overlap; what is left at the right and below is no region."""
    starts = [(x, y) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    corner = np.array(starts, dtype=np.float32).reshape(-1, 2)
    return np.concatenate([corner, corner + side], axis=1)


def _region_of(boxes: np.ndarray, grid: np.ndarray, first: int) -> np.ndarray:
    if not len(grid):
        return np.full(len(boxes), -1)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((center[:, None] >= grid[None, :, :2]) & (center[:, None] < grid[None, :, 2:])).all(axis=2)
    return np.where(inside.any(axis=1), inside.argmax(axis=1) + first, -1)


def read_cache(folder: str | Path) -> dict[str, dict]:
    """All cached images, by name. Raises DataError where there is none."""
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise DataError(f"{folder}: no cached image; run `benchmarks/screening.py features` first")
    images = {}
    for path in paths:
        with np.load(path) as file:
            images[path.stem] = {name: file[name] for name in file.files}
    return images
