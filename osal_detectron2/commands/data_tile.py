"""`osal data tile`: cut the large images of a COCO data set into tiles for active learning."""

import argparse
import sys

from ..data.windows import CUT_RULES, EDGE_RULES

LINES = 8  # image sizes of which the layout is printed

EXAMPLE = """example:
  osal data tile --json consep/train.json consep/test.json --image-root consep/images \\
      --out consep_tiles --tile 250
writes consep_tiles/train.json, consep_tiles/test.json and consep_tiles/images/*.png.
"""


def tile(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--json", required=True, nargs="+", help="COCO JSON of the large images; or several")
    add("--image-root", required=True, help="folder of the large images")
    add("--out", required=True, help="folder for images/ and the JSON of the tiles")
    add("--tile", type=int, default=250, help="side of a tile in pixels (default 250)")
    add("--overlap", type=int, default=0, help="pixels that neighbours share (default 0)")
    add(
        "--edge",
        choices=EDGE_RULES,
        default="even",
        help="an image whose size is no multiple is divided into equal tiles of nearly that side, without overlap "
        "(even, default); or all tiles are of that side and the last one is moved inward, so that it overlaps its "
        "neighbour (shift), padded with white (pad), or left out (drop)",
    )
    add(
        "--cut-boxes",
        choices=CUT_RULES,
        default="center",
        help="a box at a seam belongs to the tile with its centre (center, default), to each tile that shows "
        "enough of it (visible), or to none unless uncut (whole); kept boxes are clipped",
    )
    add("--min-visible", type=float, default=0.3, help="for visible: fraction of the area")
    parser.set_defaults(call=_tile)


def _tile(args) -> None:
    for json_file in args.json:
        _cut(json_file, args)


def _cut(json_file: str, args) -> None:
    from ..data.tiling import cut_file

    counts = cut_file(
        json_file,
        args.image_root,
        args.out,
        tile=args.tile,
        overlap=args.overlap,
        edge=args.edge,
        rule=args.cut_boxes,
        min_visible=args.min_visible,
        progress=lambda done, total, name: print(f"[{done}/{total}] {name}", file=sys.stderr),
    )
    for line in counts["layouts"][:LINES]:
        print(line)
    if len(counts["layouts"]) > LINES:
        print(f"and {len(counts['layouts']) - LINES} other sizes, likewise")
    print(
        "{images} images -> {tiles} tiles ({empty_tiles} without boxes); {boxes} boxes -> {tile_boxes}: "
        "{cut} cut, {repeated} repeated in overlaps, {lost} in no tile; {written} files written".format_map(
            counts
        )
    )
    if counts["repeated"]:
        print(
            f"warning: {counts['repeated']} boxes stand in more than one tile: annotated twice in a pool, counted "
            "twice in a test set; without --overlap, --cut-boxes visible and --edge shift each stands in one"
        )
