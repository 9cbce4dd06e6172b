"""Counting known nuclei by the distances of their features to the two prototypes (paper 2.3, methods section 2.3)."""

from collections.abc import Mapping

import numpy as np

COUNT_RULES = ("proto", "label", "both")
KNOWN_LABEL = 0  # class id of "known" in the auxiliary detector


def count_known(detections: Mapping[str, np.ndarray], *, rule: str = "proto") -> tuple[int, float]:
    """Number of known nuclei in a tile, and the mean margin that breaks ties.

    Args:
        detections: dist_known, dist_unknown (B,) and classes (B,) of the auxiliary detections of one tile.
        rule: "proto" nearer to the known prototype [paper], "label" the head says known, "both".

    Returns:
        n_known, and mean(dist_unknown - dist_known) over all detections, 0 without detections. A prototype that
        does not exist yet is infinitely far: without an unknown prototype every detection counts as known.
    """
    if rule not in COUNT_RULES:
        raise ValueError(f"count rule {rule!r} is not one of {COUNT_RULES}")
    to_known = np.asarray(detections["dist_known"], dtype=np.float64)
    to_unknown = np.asarray(detections["dist_unknown"], dtype=np.float64)
    by_prototype = to_known < to_unknown
    by_label = np.asarray(detections["classes"]) == KNOWN_LABEL
    counted = {"proto": by_prototype, "label": by_label, "both": by_prototype & by_label}[rule]
    finite = np.isfinite(to_known) & np.isfinite(to_unknown)
    margin = float((to_unknown - to_known)[finite].mean()) if finite.any() else 0.0
    return int(counted.sum()), margin
