"""Views: named changes of a tile before a pass, and where its boxes lie in them (docs/reproducibility.md 3.4, 3.6).

A name is the kind, and after a colon its parameters: "noise:8", "downscale:0.8", "rotate:5". All act on the tile at its
own size, before the detector's resize, as a change of the microscope image would; only "downscale" acts after it,
as the resize of the shortest edge would cancel it (docs/reproducibility.md 3.6). "shrink" lets it, as CALD's code does.

A random view draws from a stream named by (seed, round, image key, view), so it depends neither on the batch nor on the
order or the process (docs/reproducibility.md 1.5).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from detectron2.data import transforms as T

from ..core.errors import ConfigError
from ..core.seeding import generator
from ..data.mapper import TileMapper

_CUTOUT_TRIES = 50


@dataclass(frozen=True)
class View:
    """A view of one tile: `transform` of the tile, which keeps its size, then `scale`.

    The scale is that of the network input, or, if `early`, of the tile before the detector's resize.
    """

    transform: T.Transform
    scale: float = 1.0
    early: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the view of an image of this size; at least one pixel."""
        return max(1, round(self.scale * height)), max(1, round(self.scale * width))

    def before_resize(self, image: np.ndarray) -> np.ndarray:
        """The tile (H, W, C), uint8, transformed; same type, and the same shape unless `early`."""
        # OpenCV drops the channel axis of a grey image.
        image = self.transform.apply_image(image).reshape(image.shape)
        return self._scaled(image) if self.early else image

    def after_resize(self, image: torch.Tensor) -> torch.Tensor:
        """The network input (C, H, W), uint8, scaled by the filter of the detector's own resize unless `early`."""
        if self.early or self.scale == 1.0:
            return image
        return torch.as_tensor(self._scaled(image.permute(1, 2, 0).numpy()).copy()).permute(2, 0, 1)

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        resize = T.ResizeTransform(height, width, *self.size(height, width))
        return resize.apply_image(image)

    def map_boxes(self, boxes: np.ndarray, *, height: int, width: int) -> np.ndarray:
        """Boxes (R, 4) xyxy in pixels of a tile of this size -> the same in pixels of the view.

        The hull of the transformed corners, clipped to the view.
        """
        boxes = self.transform.apply_box(np.asarray(boxes, dtype=np.float64).reshape(-1, 4))
        new_height, new_width = self.size(height, width)
        boxes = boxes * np.tile([new_width / width, new_height / height], 2)
        return boxes.clip(0, np.tile([new_width, new_height], 2))


@dataclass(frozen=True)
class _Tile:
    """What the making of a view may look at."""

    height: int
    width: int
    reference: np.ndarray
    rng: np.random.Generator


def _noise(tile: _Tile, std: float) -> View:
    """Gaussian noise on the 0-255 scale, clamped.

    Rounded to integers too: Detectron2 resizes a float image by another filter than a uint8 one, and that difference
    would count as instability. Rounding adds a variance of 1/12.
    """

    def add(image: np.ndarray) -> np.ndarray:
        noisy = image + tile.rng.normal(0.0, std, image.shape)
        return np.rint(noisy.clip(0, 255)).astype(np.uint8)

    return View(T.ColorTransform(add))


def _salt_pepper(tile: _Tile, probability: float) -> View:
    """Half of this share of the pixels becomes white, half black."""

    def add(image: np.ndarray) -> np.ndarray:
        draw = tile.rng.random(image.shape[:2])
        image = image.copy()
        image[draw < probability] = 255
        image[draw < probability / 2] = 0
        return image

    return View(T.ColorTransform(add))


def _cutout(
    tile: _Tile,
    number: float = 2,
    min_size: float = 0.05,
    max_size: float = 0.2,
    min_overlap: float = 0.1,
    max_overlap: float = 0.4,
) -> View:
    """Blackens up to `number` rectangles whose sides are a share in [min_size, max_size] of the tile's.

    One is accepted if the box that it covers most loses a share in [min_overlap, max_overlap] of its area; after 50
    tries it is left at what was found. Without reference boxes nothing is cut.
    """
    holes: list[np.ndarray] = []
    for _ in range(_CUTOUT_TRIES if len(tile.reference) else 0):
        size = np.array([tile.width, tile.height]) * tile.rng.uniform(min_size, max_size, 2)
        corner = tile.rng.uniform(0, 1, 2) * (np.array([tile.width, tile.height]) - size)
        hole = np.rint([*corner, *(corner + size)])
        if min_overlap <= _covered(tile.reference, hole).max() <= max_overlap:
            holes.append(hole.astype(int))
        if len(holes) >= number:
            break

    def cut(image: np.ndarray) -> np.ndarray:
        image = image.copy()
        for left, top, right, bottom in holes:
            image[top:bottom, left:right] = 0
        return image

    return View(T.ColorTransform(cut))


def _rotate(tile: _Tile, degrees: float) -> View:
    """Counter-clockwise about the centre, on a black canvas that holds all of it, squeezed to the tile's size."""
    turn = T.RotationTransform(tile.height, tile.width, degrees, expand=True)
    squeeze = T.ResizeTransform(int(turn.bound_h), int(turn.bound_w), tile.height, tile.width)
    return View(T.TransformList([turn, squeeze]))


_VIEWS: dict[str, Callable[..., View]] = {
    "identity": lambda tile: View(T.NoOpTransform()),
    "noise": _noise,
    "salt_pepper": _salt_pepper,
    "hflip": lambda tile: View(T.HFlipTransform(tile.width)),
    "cutout": _cutout,
    "downscale": lambda tile, scale: View(T.NoOpTransform(), scale=scale),
    "shrink": lambda tile, scale: View(T.NoOpTransform(), scale=scale, early=True),
    "rotate": _rotate,
}
# Parameters are at least 0; these are at most 1 too.
_UPPER = dict.fromkeys(("probability", "scale", "min_size", "max_size", "min_overlap", "max_overlap"), 1.0)


def _covered(boxes: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Share of the area of each box (R, 4) that the rectangle (4,) covers; 0 for an empty box."""
    sides = (np.minimum(boxes[:, 2:], hole[2:]) - np.maximum(boxes[:, :2], hole[:2])).clip(min=0)
    area = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    return np.divide(sides.prod(axis=1), area, out=np.zeros_like(area), where=area > 0)


def check_view(name: str) -> None:
    """Raise ConfigError, listing all views, unless `name` is a view with as many parameters as it takes, in range."""
    _parse(name)


def make_view(name: str, *, height: int, width: int, reference: np.ndarray, rng: np.random.Generator) -> View:
    """The view `name` of a tile of this size with reference boxes (R, 4) xyxy; random ones draw from `rng`.

    Raises:
        ConfigError: see `check_view`.
    """
    make, values = _parse(name)
    return make(_Tile(height=height, width=width, reference=reference, rng=rng), *values)


def _parse(name: str) -> tuple[Callable[..., View], list[float]]:
    kind, _, text = name.partition(":")
    try:
        make = _VIEWS[kind]
        values = [float(word) for word in text.split(",")] if text else []
        given = inspect.signature(make).bind(None, *values).arguments
        if all(0 <= given[p] <= _UPPER.get(p, np.inf) for p in given if p != "tile"):
            return make, values
    except (KeyError, TypeError, ValueError):
        pass
    raise ConfigError(f"view {name!r} is not known; known views: {', '.join(view_names())}")


def view_names() -> list[str]:
    """All kinds of views, with their parameters in brackets, in square ones if they have a default."""
    names = []
    for kind, make in _VIEWS.items():
        parameters = list(inspect.signature(make).parameters.values())[1:]
        words = [f"<{p.name}>" if p.default is p.empty else f"[{p.name}]" for p in parameters]
        names.append(":".join([kind, *([",".join(words)] if words else [])]))
    return names


@dataclass(eq=False)
class ViewMapper:
    """Callable that turns a record into the model input of a view, at "reference" the boxes in the view.

    "height" and "width" are those of the view, so a detector's output is in view pixels.

    Args:
        mapper: inference mapper; its augmentations are the detector's resize.
        view: see the module.
        seed, round_index: with the image key, what a random view depends on.
        reference: image key -> boxes (R, 4) xyxy in tile pixels; tiles that it does not name have none.
    """

    mapper: TileMapper
    view: str
    _: KW_ONLY
    seed: int
    round_index: int
    reference: Mapping[str, np.ndarray] | None = None

    def __call__(self, record: dict) -> dict:
        key, height, width = record["image_key"], record["height"], record["width"]
        boxes = np.asarray((self.reference or {}).get(key, ()), dtype=np.float64).reshape(-1, 4)
        rng = generator("view", self.seed, self.round_index, key, self.view)
        view = make_view(self.view, height=height, width=width, reference=boxes, rng=rng)
        item = self.mapper.convert(record, view.before_resize(self.mapper.read(record)))
        item["image"] = view.after_resize(item["image"])
        item["height"], item["width"] = view.size(height, width)
        item["reference"] = view.map_boxes(boxes, height=height, width=width)
        return item
