"""How each method looks in every figure: the paper's name, a colour, a marker and a line."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..evaluation.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from .results import REFERENCES

SOLID, DASHED, DOTTED, DASHDOT = "-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2))
DOUBLE_DOT = (0, (4, 1, 1, 1, 1, 1))


@dataclass(frozen=True)
class Style:
    """label: the name in legends and tables. marker and line tell methods apart where colour does not."""

    label: str
    color: str
    marker: str
    line: str | tuple
    emphasis: bool = False

    @property
    def plot(self) -> dict:
        """Keywords of `Axes.plot`: the emphasised method is thick and filled, the others thin and hollow."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.line,
            "linewidth": 1.9 if self.emphasis else 1.0,
            "markersize": 4.6 if self.emphasis else 4.0,
            "markerfacecolor": self.color if self.emphasis else "white",
            "markeredgewidth": 0.9,
            "zorder": 4 if self.emphasis else 3,
        }


# The order here is that of legends and of the rows of tables.
STYLES = {
    "osal_nd": Style("OSAL-ND", VERMILLION, "o", SOLID, emphasis=True),
    "random": Style("Random", GREY, "s", DOTTED),
    "uncertainty": Style("Uncertainty", ORANGE, "^", DASHED),
    "coreset": Style("Coreset", GREEN, "D", DASHDOT),
    "laal": Style("LAAL", SKY, "v", SOLID),
    "laal_ls_c": Style("LAAL LS+C", SKY, "p", SOLID),
    "laal_lt_c": Style("LAAL LT/C", SKY, "d", DASHED),
    "ll4al": Style("LL4AL", PURPLE, "P", DASHED),
    "ll4al_detached": Style("LL4AL, detached", PURPLE, "*", SOLID),
    "cald": Style("CALD", BLUE, "X", SOLID),
    "lfosa": Style("LfOSA", GREEN, "<", SOLID),
    "openal": Style("OpenAL", BLACK, ">", DOUBLE_DOT),
    "osal_nd_plus": Style("OSAL-ND+", BLUE, "o", DASHED, emphasis=True),
    "osal_nd_wo_ci": Style("w/o CI", BLUE, "s", DASHED),
    "osal_nd_wo_li": Style("w/o LI", SKY, "^", DASHDOT),
    "utss": Style("UTSS", GREEN, "D", SOLID),
    "pcss": Style("PCSS", PURPLE, "v", DASHED),
    "pcss_by_label": Style("PCSS by label", ORANGE, "P", DASHDOT),
    "pcss_by_target": Style("PCSS by target", ORANGE, "X", DASHED),
    "count_all": Style("Count-all", BLACK, "X", SOLID),
    "random_from_candidates": Style("Random from candidates", GREY, "<", DOTTED),
    "full": Style("Full annotation", BLACK, "", (0, (6, 3))),
    "initial_only": Style("Initial tiles only", GREY, "", (0, (1, 3))),
}  # fmt: skip

# What Fig. 4 shows beside OSAL-ND: its parts left out, and controls that ask whether its prototypes matter.
ABLATIONS = (
    "osal_nd_wo_ci", "osal_nd_wo_li", "utss", "pcss", "pcss_by_label", "pcss_by_target", "count_all",
    "random_from_candidates",
)  # fmt: skip

_COLORS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, SKY, VERMILLION)
_MARKERS = ("*", "h", "p", "d", "8", "H")
_LINES = (DASHDOT, SOLID, DOUBLE_DOT, DASHED)


def styles_of(methods: Iterable[str]) -> dict[str, Style]:
    """{method: style} in the order of legends: the table's, methods not known by name, those that query nothing.

    Each new method gets a marker, colour and line of its own and, as its label, its name with blanks, or that of the
    method it varies: random_shared becomes "Random shared".
    """
    methods = set(methods)
    known = {name: style for name, style in STYLES.items() if name in methods}
    looks = zip(itertools.cycle(_COLORS), itertools.cycle(_MARKERS), itertools.cycle(_LINES))
    new = {
        name: Style(_label(name), color, marker, line)
        for name, (color, marker, line) in zip(sorted(methods - set(known)), looks)
    }
    references = {name: known.pop(name) for name in REFERENCES if name in known}
    return known | new | references


def setting_title(setting: str) -> str:
    """A setting as papers write it: 3+4 for "3_4"; other names with blanks."""
    return re.sub(r"(?<=\d)_(?=\d)", "+", setting).replace("_", " ")


def varied_by(name: str) -> str:
    """The method of the table that `name` begins with, the longest; "" for none, or for one of the table itself."""
    bases = [base for base in STYLES if name.startswith(base + "_")]
    return "" if name in STYLES else max(bases, key=len, default="")


def _label(name: str) -> str:
    base = varied_by(name)
    rest = name.removeprefix(base).replace("_", " ").strip()
    return f"{STYLES[base].label} {rest}" if base else rest
