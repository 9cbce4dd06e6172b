"""Counting known nuclei by the distances of features to both prototypes (paper 2.3, docs/reproducibility.md 2.3)."""

import logging
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
    by_prototype = nearer_known(detections)
    by_label = np.asarray(detections["classes"]) == KNOWN_LABEL
    counted = {"proto": by_prototype, "label": by_label, "both": by_prototype & by_label}[rule]
    finite = np.isfinite(to_known) & np.isfinite(to_unknown)
    margin = float((to_unknown - to_known)[finite].mean()) if finite.any() else 0.0
    return int(counted.sum()), margin


def nearer_known(detections: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which detections (B,) are nearer to the known prototype than to the unknown one."""
    return np.asarray(detections["dist_known"], dtype=np.float64) < detections["dist_unknown"]


def looks_known(detections: Mapping[str, np.ndarray], *, unknown: int) -> np.ndarray:
    """Which auxiliary detections (B,) look known: `nearer_known`, or without prototypes of a class before `unknown`."""
    if "dist_known" in detections:
        return nearer_known(detections)
    return np.asarray(detections["classes"]) < unknown


def warn_if_blind(table: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Say so where most tiles have no auxiliary detection, so that counting them is nearly a lottery."""
    blank = sum(len(row["scores"]) == 0 for row in table.values())
    if blank > len(table) / 2:
        logging.getLogger(__name__).warning(
            "the auxiliary detector finds nothing in %d of %d pool tiles, so stage one is nearly a lottery: lower "
            "OSAL.PROTOTYPE.WEIGHT or OSAL.AUXILIARY.SCORE_THRESH, or train longer",
            blank,
            len(table),
        )
