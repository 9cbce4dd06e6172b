"""The colours of all pictures and figures: a class has the same one wherever it is shown.

Okabe and Ito's eight tell apart with any colour vision. Where a colour may not be enough there is a second sign: boxes
of unknown nuclei are dashed, curves have markers and line styles.
"""

BLACK, WHITE, GREY = "#000000", "#FFFFFF", "#777777"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

# Known classes, best on pink and violet stain first; from the seventh on Tol's muted colours, which are less far apart.
CLASS_COLORS = (SKY, YELLOW, GREEN, ORANGE, BLUE, PURPLE, "#999933", "#882255", "#332288", "#44AA99")
UNKNOWN_COLOR = WHITE  # dashed on a black rim: dark on pale tissue, pale on dark tissue
EXTRA_COLOR = VERMILLION  # hatched
LINE_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

_ON_PAPER = {YELLOW: "#B59B00"}


def class_color(index: int, *, on_paper: bool = False) -> str:
    """The colour of known class `index` as "#RRGGBB"; on_paper: dark enough for a line on white."""
    color = CLASS_COLORS[index % len(CLASS_COLORS)]
    return _ON_PAPER.get(color, color) if on_paper else color


def rgb(color: str) -> tuple[int, int, int]:
    """(red, green, blue), each 0 to 255, of "#RRGGBB"."""
    return tuple(bytes.fromhex(color[1:]))


def contrast(first: str, second: str) -> float:
    """How much two colours differ in lightness, 1 to 21 (WCAG 2.2: text needs 4.5, a line 3)."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def readable(color: str, ground: str, least: float = 3.0) -> str:
    """`color`, mixed with black or white, whichever `ground` is not, until it has the contrast `least`."""
    end = BLACK if _luminance(ground) > 0.18 else WHITE
    for step in range(21):
        mixed = [round(a + (b - a) * step / 20) for a, b in zip(rgb(color), rgb(end))]
        shade = f"#{bytes(mixed).hex().upper()}"
        if contrast(shade, ground) >= least:
            break
    return shade


def _luminance(color: str) -> float:
    parts = [v / 255 for v in rgb(color)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
