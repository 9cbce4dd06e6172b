"""Appearance of each kind of nucleus, as a table. Lengths are pixels at about 0.35 microns per pixel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One raw class of NuCLS and how it is drawn.

    length: median long axis; spread: sigma of its logarithm; aspect: range of long to short axis.
    irregularity: amplitude of the contour's waves, as a part of the radius.
    dark: range of haematoxylin inside (1 is an ordinary nucleus); grain: pixels of the chromatin pattern;
    contrast: its amplitude; rim: extra stain at the membrane; nucleoli: range of their number.
    surround: what lies around the nucleus: "", "basophilic", "foamy", "clear", "granular", "halo".
    """

    raw: str
    main: str
    super: str
    shape: str
    length: float
    spread: float
    aspect: tuple[float, float]
    irregularity: float
    dark: tuple[float, float]
    grain: float
    contrast: float
    rim: float = 0.0
    nucleoli: tuple[int, int] = (0, 0)
    surround: str = ""


KINDS = {
    kind.raw: kind
    for kind in (
        # large, vesicular, of many shapes and sizes, with nucleoli
        Kind(
            "tumor", "tumor_nonMitotic", "tumor_any",
            "oval", 28, 0.20, (1.0, 1.7), 0.07, (0.30, 0.80), 2.6, 0.34, 0.45, (0, 3),
        ),
        # no membrane, dark, ragged plate in a clear cell
        Kind(
            "mitotic_figure", "tumor_mitotic", "tumor_any",
            "plate", 21, 0.15, (1.5, 3.2), 0.22, (1.5, 2.0), 1.5, 0.10, 0.0, (0, 0), "clear",
        ),
        # small, round, dark, smudged
        Kind(
            "lymphocyte", "lymphocyte", "sTIL",
            "oval", 14.5, 0.11, (1.0, 1.25), 0.04, (1.05, 1.5), 2.2, 0.18, 0.12,
        ),
        # clock-face chromatin, off the centre of a basophilic cell with a pale hof
        Kind(
            "plasma_cell", "plasma_cell", "sTIL",
            "oval", 15.5, 0.10, (1.0, 1.3), 0.03, (0.85, 1.2), 2.0, 0.10, 0.20, (0, 0), "basophilic",
        ),
        # bean-shaped, pale, in a wide foamy cell
        Kind(
            "macrophage", "macrophage", "nonTIL_stromal",
            "bean", 25, 0.14, (1.3, 1.8), 0.05, (0.40, 0.70), 2.8, 0.22, 0.25, (0, 1), "foamy",
        ),
        # long spindle along the collagen
        Kind(
            "fibroblast", "nonTILnonMQ_stromal", "nonTIL_stromal",
            "spindle", 30, 0.24, (1.6, 4.8), 0.05, (0.40, 1.15), 2.4, 0.20, 0.15, (0, 1),
        ),
        Kind(
            "vascular_endothelium", "nonTILnonMQ_stromal", "nonTIL_stromal",
            "spindle", 25, 0.18, (2.2, 4.0), 0.04, (0.9, 1.3), 2.2, 0.12, 0.1,
        ),
        Kind(
            "neutrophil", "other_nucleus", "other_nucleus",
            "lobes", 15, 0.08, (1.0, 1.2), 0.04, (1.3, 1.7), 1.8, 0.08, 0.0, (3, 4), "clear",
        ),
        Kind(
            "eosinophil", "other_nucleus", "other_nucleus",
            "lobes", 14, 0.08, (1.0, 1.2), 0.03, (1.1, 1.4), 1.8, 0.08, 0.0, (2, 2), "granular",
        ),
        Kind(
            "myoepithelium", "other_nucleus", "other_nucleus",
            "spindle", 20, 0.14, (1.7, 2.6), 0.04, (0.8, 1.2), 2.2, 0.12, 0.1, (0, 0), "clear",
        ),
        Kind(
            "ductal_epithelium", "other_nucleus", "other_nucleus",
            "oval", 19, 0.10, (1.2, 1.7), 0.03, (0.6, 0.9), 2.4, 0.16, 0.25, (0, 1),
        ),
        Kind(
            "apoptotic_body", "AMBIGUOUS", "AMBIGUOUS",
            "lobes", 12, 0.15, (1.0, 1.3), 0.03, (1.5, 1.9), 1.5, 0.03, 0.0, (1, 4), "halo",
        ),
        # out of focus, crushed or cut tangentially
        Kind(
            "unlabeled", "AMBIGUOUS", "AMBIGUOUS",
            "oval", 17, 0.25, (1.0, 2.2), 0.12, (0.4, 1.2), 3.5, 0.10,
        ),
    )
}  # fmt: skip

PAPER_COUNTS = {
    "tumor": 6658, "lymphocyte": 1726, "stromal": 1970, "plasma_cell": 1075, "mitotic_figure": 49, "macrophage": 183,
    "other": 119,
}  # fmt: skip
"""Nuclei of each class in the paper's section 3."""

PAPER_TILES = 300
"""Tiles of the default set: together with PAPER_COUNTS about 39 nuclei a tile, near the release's 34."""
