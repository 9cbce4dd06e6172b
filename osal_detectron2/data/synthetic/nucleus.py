"""One nucleus as a patch of stain: outline, chromatin and the cell around it.

Work is done in the nucleus's own frame: u along the long axis, v across it, in pixels from its centre.
"""

from dataclasses import dataclass

import numpy as np

from .classes import KINDS
from .tissue import noise


@dataclass
class Patch:
    """Stain of one cell on a square patch whose middle is the nucleus.

    cover: (S, S) part of each pixel that is nucleus; stain: haematoxylin there; eosin: eosin there;
    cell: part of each pixel that is cytoplasm of its own; cell_h, cell_e: stains of the cytoplasm.
    """

    cover: np.ndarray
    stain: np.ndarray
    eosin: float
    cell: np.ndarray | None = None
    cell_h: np.ndarray | float = 0.0
    cell_e: np.ndarray | float = 0.0


def draw_nucleus(place, style, rng):
    """Patch of one Place. Its side is odd, and its middle pixel is the pixel of the place."""
    look = KINDS[place.kind]
    a = 0.5 * place.length
    b = a / place.aspect
    half = int(a * (2.1 if look.surround else 1.3)) + 5
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    x -= place.x - int(place.x) - 0.5
    y -= place.y - int(place.y) - 0.5
    cos, sin = np.cos(place.angle), np.sin(place.angle)
    u, v = x * cos + y * sin, -x * sin + y * cos
    depth, rho = SHAPES[look.shape](u, v, a, b, look, rng)
    if look.shape == "plate":  # chromosome arms: a ragged edge
        depth = depth + 1.3 * noise(rng, *u.shape, 3)
    soft = 1.6 if place.kind == "unlabeled" else 0.9
    cover = np.clip(depth / (2 * soft) + 0.5, 0, 1)
    stain = _chromatin(place, look, style, u, v, depth, rho, rng)
    surround = SURROUNDS[look.surround](u, v, a, rng) if look.surround else ()
    return Patch(cover, stain, 0.25, *surround)


def _chromatin(place, look, style, u, v, depth, rho, rng):
    dark, contrast = rng.uniform(*look.dark), look.contrast
    if place.kind == "tumor":
        dark = min(dark * style.tumor_dark, 1.35)
        contrast *= rng.uniform(0.6, 1.4)
    texture = np.clip(noise(rng, *u.shape, look.grain), -1.8, 1.8)
    stain = dark * (1 + contrast * texture)
    stain += look.rim * np.exp(-(((depth - 0.8) / 1.1) ** 2))
    if look.shape in ("oval", "bean") and dark < 0.7:  # vesicular: cleared within a stained membrane
        stain *= 1 - 0.45 * np.clip(1.6 * (1 - rho), 0, 1)
    if place.kind == "plasma_cell":
        spokes = np.cos(rng.integers(5, 8) * np.arctan2(v, u) + rng.uniform(0, 6.3))
        stain *= 1 + rng.uniform(0.05, 0.32) * spokes * np.exp(-(((rho - 0.65) / 0.25) ** 2))
    low, high = look.nucleoli
    if look.shape in ("oval", "bean", "spindle") and high:
        size = np.sqrt(max(place.length, 8) / 22)
        for _ in range(rng.integers(low, high + 1)):
            t, r = rng.uniform(0, 6.3), rng.uniform(0, 0.22) * place.length
            du, dv = u - r * np.cos(t), v - r * np.sin(t) / place.aspect
            width = rng.uniform(0.9, 1.9) * size
            stain += rng.uniform(0.35, 0.8) * np.exp(-(du**2 + dv**2) / (2 * width**2))
    return np.clip(stain, 0.05, 2.2)


# Shapes: (u, v, half axes, Kind, rng) -> (depth in pixels, positive inside; radius, 1 at the edge)


def _waves(phi, amplitude, rng):
    outline = np.ones_like(phi)
    for order in (2, 3, 4, 5):
        outline += rng.normal(0, amplitude / np.sqrt(order)) * np.cos(order * phi + rng.uniform(0, 6.3))
    return outline


def _oval(u, v, a, b, look, rng):
    phi = np.arctan2(v / b, u / a)
    rho = np.hypot(u / a, v / b) / _waves(phi, look.irregularity, rng)
    return (1 - rho) * b, rho


def _bean(u, v, a, b, look, rng):
    bent = v + rng.uniform(0.3, 0.6) * b * (1 - (u / (0.62 * a)) ** 2) * np.exp(-((u / (0.62 * a)) ** 2))
    return _oval(u, bent, a, 0.9 * b, look, rng)


def _spindle(u, v, a, b, look, rng):
    bent = v - rng.normal(0, 0.35) * b * (u / a) ** 2 - rng.normal(0, 0.25) * b * np.sin(2.5 * u / a)
    outline = _waves(np.arctan2(bent / b, u / a), look.irregularity, rng)
    rho = (np.abs(u / a) ** rng.uniform(1.3, 2.0) + np.abs(bent / b) ** 1.8) ** 0.55 / outline
    return (1 - rho) * b, rho


def _plate(u, v, a, b, look, rng):
    if rng.random() < 0.25:  # anaphase: two plates
        apart = rng.uniform(0.35, 0.5) * a
        depth, rho = _oval(u, np.abs(v) - apart, 0.85 * a, 0.3 * a, look, rng)
        return depth, rho
    return _oval(u, v, a, b, look, rng)


def _lobes(u, v, a, b, look, rng):
    count = int(rng.integers(look.nucleoli[0], look.nucleoli[1] + 1))
    if count == 1:
        return _oval(u, v, 0.75 * a, 0.7 * a, look, rng)
    start, sweep = rng.uniform(0, 6.3), rng.uniform(3.6, 5.2) if count > 2 else np.pi
    depth = np.full_like(u, -99.0)
    radius = a * (0.36 if count > 2 else 0.46)
    for i in range(count):
        t = start + sweep * i / (count - 1)
        r = radius * rng.uniform(0.85, 1.15)
        d = r - np.hypot(u - (a - radius) * np.cos(t), v - (a - radius) * np.sin(t))
        depth = np.maximum(depth, d)
    return depth, 1 - depth / radius


SHAPES = {"oval": _oval, "bean": _bean, "spindle": _spindle, "plate": _plate, "lobes": _lobes}

# Surroundings: (u, v, half axis, rng) -> cell, cell_h, cell_e of the patch


def _basophilic(u, v, a, rng):
    """Plasma cell: purple cytoplasm to one side, with a pale hof beside the nucleus."""
    shift = rng.uniform(0.45, 0.75) * a
    cell = _disc(u - shift, v, rng.uniform(1.5, 1.8) * a, rng.uniform(1.15, 1.4) * a)
    hof = rng.uniform(0.1, 0.8) * np.exp(-((u - 1.15 * a) ** 2 + v**2) / (2 * (0.33 * a) ** 2))
    return 0.85 * cell, rng.uniform(0.22, 0.42) * (1 - hof), 0.42 * (1 - 0.6 * hof)


def _foamy(u, v, a, rng):
    """Macrophage: wide pale cytoplasm full of small vacuoles."""
    cell = _disc(u - 0.4 * a * rng.normal(), v - 0.4 * a * rng.normal(), 1.75 * a, 1.5 * a)
    bubbles = noise(rng, *u.shape, 3.2)
    return 0.8 * cell, 0.07, np.clip(0.26 + 0.13 * bubbles, 0.02, 0.6)


def _clear(u, v, a, rng):
    return rng.uniform(0.3, 0.7) * _disc(u, v, 1.5 * a, 1.4 * a), 0.05, 0.2


def _granular(u, v, a, rng):
    """Eosinophil: bright red granules."""
    grains = noise(rng, *u.shape, 2)
    return 0.9 * _disc(u - 0.4 * a, v, 1.5 * a, 1.3 * a), 0.03, 1.15 + 0.3 * grains


def _halo(u, v, a, rng):
    """Apoptotic body: shrunken red cytoplasm in an empty ring."""
    inner = _disc(u, v, 1.35 * a, 1.3 * a)
    return rng.uniform(0.3, 0.9) * _disc(u, v, 1.8 * a, 1.7 * a), 0.1, 0.15 + 0.65 * inner


def _disc(u, v, a, b):
    return np.clip((1 - np.hypot(u / a, v / b)) * b / 3 + 0.5, 0, 1)


SURROUNDS = dict(basophilic=_basophilic, foamy=_foamy, clear=_clear, granular=_granular, halo=_halo)
