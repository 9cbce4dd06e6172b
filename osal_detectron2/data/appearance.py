"""What a tile looks like, in a few numbers that need no detector."""

import numpy as np
from PIL import Image


def appearance(picture: Image.Image) -> np.ndarray:
    """(14,) what a tile looks like, coarsely: optical density of each channel (mean, spread, 10th and 90th percentile)
    and how much its edges weigh at two scales."""
    small = picture.convert("RGB").resize((64, 64), Image.Resampling.BOX)
    density = -np.log((np.asarray(small, dtype=np.float64) + 1) / 256)
    flat = density.reshape(-1, 3)
    colors = [flat.mean(axis=0), flat.std(axis=0), *np.percentile(flat, [10, 90], axis=0)]
    grey = density.mean(axis=2)
    coarse = grey.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    edges = [sum(np.abs(np.diff(grid, axis=a)).mean() for a in (0, 1)) for grid in (grey, coarse)]
    return np.concatenate([*colors, edges])
