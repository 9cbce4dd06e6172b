"""Uncertainty of a tile in the target detector (paper Eqs. 3, 5 and 6; methods sections 2.5 and 2.7)."""

from collections.abc import Mapping

import numpy as np


def tile_uncertainty(detections: Mapping[str, np.ndarray], *, score_thresh: float) -> tuple[float, float]:
    """CI (Eq. 5) and LI (Eq. 6) of one tile: means over its detections at or above `score_thresh`.

    Args:
        detections: scores (B,), cls_uncertainty (B,) in (0, 1] and loc_tightness (B,) in [0, 1].

    Returns:
        (CI, LI); (0, 0) for a tile without such detections (methods section 6 row 20).
    """
    kept = np.asarray(detections["scores"], dtype=np.float64) >= score_thresh
    if not kept.any():
        return 0.0, 0.0
    ci = np.asarray(detections["cls_uncertainty"], dtype=np.float64)[kept].mean()
    li = 1.0 - np.asarray(detections["loc_tightness"], dtype=np.float64)[kept].mean()
    return float(ci), float(li)
