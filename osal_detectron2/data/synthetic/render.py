"""Pixels of a tile: haematoxylin and eosin mixed as optical densities, then blurred and noisy like a scan."""

import cv2
import numpy as np

from .nucleus import draw_nucleus
from .tissue import noise, smooth_step


def render_tile(places, tissue, style, rng):
    """Draw a tile.

    Returns:
        (RGB uint8 array (height, width, 3), list of (xmin, ymin, xmax, ymax) in pixels as drawn, in the order
        of `places`; a box may reach past the border, as in the release).
    """
    h, e = _background(tissue, style, rng)
    _erythrocytes(h, e, tissue, rng)
    _cell_borders(h, e, places, tissue, rng)
    boxes = []
    patches = [draw_nucleus(place, style, rng) for place in places]
    for place, patch in zip(places, patches):
        if patch.cell is not None:
            _lay_cell(h, e, place, patch)
    for place, patch in zip(places, patches):
        boxes.append(_lay_nucleus(h, e, place, patch))
    return _scan(h, e, style, rng), boxes


def _background(tissue, style, rng):
    """Collagen between the nests, granular cytoplasm in them, nothing in fat, lumina and clefts."""
    height, width = tissue.nest.shape
    fine = noise(rng, height, width, 2.2)
    broad = noise(rng, height, width, 60)
    loose = smooth_step(noise(rng, height, width, 70) - rng.normal(0.4, 0.8), 0.8)  # oedematous, few fibres
    stroma_e = (0.16 + 0.55 * tissue.fibre) * (1 - 0.45 * loose) + 0.03 * fine
    stroma_e *= (
        smooth_step(tissue.fibre - 0.16 - 0.12 * loose, 0.14) * 0.85 + 0.15
    )  # clefts between the bundles
    stroma_h = 0.05 + 0.06 * tissue.fibre + 0.02 * fine + 0.10 * loose * (0.5 + 0.2 * fine)
    cytoplasm = rng.uniform(0.24, 0.42)
    clumps = noise(rng, height, width, rng.uniform(5, 9))
    nest_e = cytoplasm * (1 + 0.12 * fine + 0.16 * clumps + 0.12 * broad)
    nest_h = rng.uniform(0.08, 0.24) * (1 + 0.18 * fine + 0.20 * clumps + 0.10 * broad)
    body = np.maximum(tissue.nest, 0.9 * tissue.gland)
    e = stroma_e * (1 - body) + nest_e * body
    h = stroma_h * (1 - body) + nest_h * body
    edge = 4 * tissue.nest * (1 - tissue.nest)
    tissue_left = 1 - 0.97 * tissue.lumen
    tissue_left *= 1 - np.clip(style.retraction, 0, 0.9) * edge  # nests shrink away from the stroma
    return np.clip(h * tissue_left, 0, None), np.clip(e * tissue_left, 0, None)


def _erythrocytes(h, e, tissue, rng):
    """Red cells without nucleus in the stroma of some tiles."""
    if rng.random() > 0.3:
        return
    height, width = h.shape
    cx, cy = rng.uniform(0, width), rng.uniform(0, height)
    if tissue.nest[int(cy), int(cx)] > 0.3 or tissue.lumen[int(cy), int(cx)] > 0.5:
        return
    mask = np.zeros((height, width), np.float32)
    spread = rng.uniform(6, 22)
    for _ in range(int(rng.integers(3, 26))):
        x, y = rng.normal(cx, spread), rng.normal(cy, spread)
        axes = (int(rng.integers(4, 7)), int(rng.integers(3, 6)))
        cv2.ellipse(
            mask, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.6, 1.0)), -1
        )
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)
    e += mask * (0.9 - e)
    h *= 1 - 0.7 * mask


def _cell_borders(h, e, places, tissue, rng):
    """Faint lines half-way between tumour nuclei."""
    height, width = h.shape
    seeds = np.full((height, width), 255, np.uint8)
    for place in places:
        if place.kind in ("tumor", "ductal_epithelium"):
            seeds[int(place.y), int(place.x)] = 0
    if seeds.min() == 255:
        return
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    border = np.zeros((height, width), np.float32)
    border[:, 1:] = labels[:, 1:] != labels[:, :-1]
    border[1:] = np.maximum(border[1:], labels[1:] != labels[:-1])
    border = cv2.GaussianBlur(border, (0, 0), 0.9) * np.maximum(tissue.nest, tissue.gland)
    strength = rng.uniform(-0.9, 0.4)  # dark membranes or pale gaps
    e *= 1 + strength * border
    h *= 1 + strength * border


def _window(place, side, shape):
    """Slices of the tile and of a square patch where the two overlap."""
    half = side // 2
    y0, x0 = int(place.y) - half, int(place.x) - half
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(side, shape[0] - y0), min(side, shape[1] - x0)
    there = slice(y0 + top, y0 + bottom), slice(x0 + left, x0 + right)
    return there, (slice(top, bottom), slice(left, right))


def _lay_cell(h, e, place, patch):
    there, here = _window(place, patch.cell.shape[0], h.shape)
    cell = patch.cell[here]
    for tile, stain in ((h, patch.cell_h), (e, patch.cell_e)):
        stain = stain[here] if isinstance(stain, np.ndarray) else stain
        tile[there] += cell * (stain - tile[there])


def _lay_nucleus(h, e, place, patch):
    """Add the nucleus and return its box. What lies below shines through a little: a section is thick."""
    there, here = _window(place, patch.cover.shape[0], h.shape)
    cover, stain = patch.cover[here], patch.stain[here]
    h[there] = h[there] * (1 - 0.85 * cover) + cover * stain
    e[there] += 0.7 * cover * (patch.eosin - e[there])
    inside = patch.cover > 0.4
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    half = patch.cover.shape[0] // 2
    x0, y0 = int(place.x) - half, int(place.y) - half
    return (x0 + int(columns[0]), y0 + int(rows[0]), x0 + int(columns[-1]) + 1, y0 + int(rows[-1]) + 1)


def _scan(h, e, style, rng):
    """Beer-Lambert: light falls off with stain times its colour vector. Then the lens and the sensor."""
    density = style.h_gain * h[..., None] * np.array(style.haematoxylin, np.float32) + style.e_gain * e[
        ..., None
    ] * np.array(style.eosin, np.float32)
    light = style.white * np.exp(-1.25 * density.astype(np.float32))
    light = cv2.GaussianBlur(light, (0, 0), style.blur * float(rng.uniform(0.85, 1.25)))
    light += rng.normal(0, 2.2, light.shape[:2]).astype(np.float32)[..., None]
    light += rng.normal(0, 1.2, light.shape).astype(np.float32)
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)
