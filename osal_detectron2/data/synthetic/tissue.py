"""Where things lie in a tile: compartments, fibres, and the place, size and direction of every nucleus."""

from dataclasses import dataclass

import cv2
import numpy as np

from .classes import KINDS


@dataclass(frozen=True)
class Style:
    """What the tiles of one slide share: stains, focus and the grade of the tumour."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    h_gain: float
    e_gain: float
    white: float
    blur: float
    tumor_scale: float
    tumor_spread: float
    tumor_dark: float
    retraction: float


@dataclass(frozen=True)
class Place:
    """One nucleus to draw. `angle` is the direction of its long axis in radians, x to the right, y down."""

    kind: str
    x: float
    y: float
    length: float
    aspect: float
    angle: float


@dataclass
class Tissue:
    """Compartment maps, all (height, width) float32 from 0 to 1, and the fibres' direction in radians."""

    nest: np.ndarray
    lumen: np.ndarray
    fibre: np.ndarray
    direction: np.ndarray
    gland: np.ndarray
    center: tuple[float, float]


def draw_style(rng):
    """A slide's style. Hue, strength, focus and grade vary as between laboratories and patients."""

    def vector(base):
        v = np.maximum(np.array(base) + rng.normal(0, 0.035, 3), 0.02)
        return tuple(float(x) for x in v / np.linalg.norm(v))

    return Style(
        haematoxylin=vector((0.62, 0.70, 0.34)),
        eosin=vector((0.10, 0.93, 0.34)),
        h_gain=float(rng.uniform(0.75, 1.2)),
        e_gain=float(rng.uniform(0.7, 1.25)),
        white=float(rng.uniform(238, 250)),
        blur=float(rng.choice([0.45, 0.6, 0.8, 1.15], p=[0.3, 0.35, 0.25, 0.1])),
        tumor_scale=float(np.exp(rng.normal(0, 0.13))),
        tumor_spread=float(rng.uniform(0.10, 0.26)),
        tumor_dark=float(rng.uniform(0.75, 1.4)),
        retraction=float(max(0.0, rng.normal(0.2, 0.3))),
    )


def noise(rng, height, width, scale):
    """Smooth noise (height, width), about mean 0 and deviation 1, with features of `scale` pixels."""
    grid = rng.standard_normal((int(height / scale) + 4, int(width / scale) + 4)).astype(np.float32)
    full = cv2.resize(
        grid, (int(grid.shape[1] * scale) + 1, int(grid.shape[0] * scale) + 1), interpolation=cv2.INTER_CUBIC
    )
    y, x = int(1.5 * scale), int(1.5 * scale)
    return full[y : y + height, x : x + width] * 1.25


def smooth_step(values, width):
    """0 below -width, 1 above width, a ramp between."""
    return np.clip(values / (2 * width) + 0.5, 0, 1)


def build_tissue(theme, n_tumor, height, width, rng):
    """Compartments of a tile. Nests take the room that `n_tumor` tumour cells need."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    center = (float(rng.uniform(0.25, 0.75) * width), float(rng.uniform(0.25, 0.75) * height))
    distance = np.hypot(x - center[0], y - center[1])
    fibre, direction = _fibres(x, y, rng)
    nest, lumen, gland = (np.zeros((height, width), np.float32) for _ in range(3))
    area = n_tumor * rng.uniform(900, 1500) / (height * width)
    if area > 0.03:
        field = noise(rng, height, width, rng.uniform(45, 90)) + 0.25 * noise(rng, height, width, 14)
        nest = smooth_step(field - np.quantile(field, 1 - min(area, 0.95)), 0.12)
    if theme == "fat":
        lumen = _vacuoles(height, width, rng)
        nest *= 1 - lumen
    elif theme == "duct":
        radius = rng.uniform(0.16, 0.26) * min(height, width)
        wobble = distance + 3 * noise(rng, height, width, 30)
        lumen = smooth_step(radius - wobble, 1.5)
        gland = smooth_step(radius + 24 - wobble, 3) * (1 - lumen)
        nest *= 1 - np.maximum(lumen, gland)
    elif rng.random() < 0.35:
        field = noise(rng, height, width, rng.uniform(25, 50))
        lumen = smooth_step(field - rng.uniform(2.0, 2.6), 0.06) * (1 - nest)
    return Tissue(nest, lumen, fibre, direction, gland, center)


def _fibres(x, y, rng):
    """Wavy streaks and their direction: a streaky texture, looked up where a smooth field bends the lines."""
    height, width = x.shape
    theta, wave = rng.uniform(0, np.pi), rng.uniform(4, 14)
    bend = wave * noise(rng, height, width, rng.uniform(50, 90))
    along = x * np.cos(theta) + y * np.sin(theta)
    across = (-x * np.sin(theta) + y * np.cos(theta) + bend).astype(np.float32)
    side = 512
    coarse, fine = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((side // 3, side // 36), (side // 8, side // 60))
    )
    texture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    texture += 0.6 * cv2.resize(fine, (side, side), interpolation=cv2.INTER_CUBIC)
    fibre = cv2.remap(texture, along.astype(np.float32), across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    gy, gx = np.gradient(across)
    return np.clip(0.55 + 0.22 * fibre, 0, 1), np.arctan2(gy, gx) - np.pi / 2


def _vacuoles(height, width, rng):
    """Fat: large empty cells with thin walls, from distances to scattered centres."""
    count = max(4, int(height * width / 5200))
    seeds = np.stack([rng.uniform(-30, width + 30, count), rng.uniform(-30, height + 30, count)], axis=1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distances = np.sort(np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1]), axis=-1)
    wall = distances[..., 1] - distances[..., 0] + 1.5 * noise(rng, height, width, 20)
    return smooth_step(wall - rng.uniform(4, 9), 2.0).astype(np.float32)


def place_nuclei(kinds, tissue, style, rng):
    """Places for nuclei of the given kinds, large ones first, each where its kind belongs and there is room.

    Nuclei may overlap where it is crowded, as they do in a section of some thickness.
    """
    height, width = tissue.nest.shape
    maps = _preferences(tissue, rng)
    specs = sorted((_size(kind, style, rng) for kind in kinds), key=lambda spec: -spec[1])
    xs, ys, radii, places = [], [], [], []
    for kind, length, aspect in specs:
        radius = 0.5 * length / np.sqrt(aspect)
        cumulative = maps[_habitat(kind)]
        picks = np.searchsorted(cumulative, rng.random(24) * cumulative[-1])
        px = picks % width + rng.random(24)
        py = picks // width + rng.random(24)
        if xs:
            gap = np.hypot(px[:, None] - xs, py[:, None] - ys) - (radius + np.array(radii)) * 1.02
            room = gap.min(axis=1)
            best = int(np.argmax(room > 0)) if (room > 0).any() else int(np.argmax(room))
        else:
            best = 0
        x, y = float(px[best]), float(py[best])
        xs.append(x)
        ys.append(y)
        radii.append(radius)
        angle = _angle(kind, x, y, tissue, rng)
        places.append(Place(kind, x, y, float(length), float(aspect), angle))
    return places


def _size(kind, style, rng):
    look = KINDS[kind]
    tumor = kind in ("tumor", "mitotic_figure")
    spread = style.tumor_spread if kind == "tumor" else look.spread
    aspect = rng.uniform(*look.aspect)
    length = look.length * np.exp(rng.normal(0, spread)) * (style.tumor_scale if tumor else 1.0)
    if look.shape == "oval":  # same area whatever the aspect
        length *= np.sqrt(aspect / np.mean(look.aspect))
    return kind, length, aspect


def _habitat(kind):
    if kind in ("tumor", "mitotic_figure"):
        return "nest"
    if kind in ("ductal_epithelium", "myoepithelium"):
        return "gland"
    return "cluster" if kind in ("lymphocyte", "plasma_cell") else "stroma"


def _preferences(tissue, rng):
    """Cumulative weights over pixels for each habitat. Immune cells enter the nests, tumour cells leave."""
    height, width = tissue.nest.shape
    solid = 1 - tissue.lumen
    stroma = (1 - tissue.nest) * (1 - tissue.gland) * solid
    lumps = np.exp(1.3 * noise(rng, height, width, 40))
    invasion = rng.uniform(0.01, 0.10)
    maps = {
        "nest": tissue.nest * solid + 0.01 * stroma,
        "gland": tissue.gland + 0.001,
        "stroma": stroma + 0.5 * invasion * tissue.nest * solid,
        "cluster": stroma * lumps + invasion * tissue.nest * solid,
    }
    return {name: np.cumsum(weight.ravel().astype(np.float64) + 1e-7) for name, weight in maps.items()}


def _angle(kind, x, y, tissue, rng):
    if KINDS[kind].shape == "spindle" and kind != "myoepithelium":
        return float(tissue.direction[int(y), int(x)] + rng.normal(0, 0.2))
    radial = np.arctan2(y - tissue.center[1], x - tissue.center[0])
    if kind == "ductal_epithelium":
        return float(radial + rng.normal(0, 0.2))
    if kind == "myoepithelium":
        return float(radial + np.pi / 2 + rng.normal(0, 0.2))
    return float(rng.uniform(0, 2 * np.pi))
