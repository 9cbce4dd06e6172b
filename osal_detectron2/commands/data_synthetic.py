"""`osal data synthetic`: render a made-up nucleus set in the layout of NuCLS, and prepare it as that is."""

import argparse
import time
from pathlib import Path

EPILOG = """example:
  osal data synthetic --out datasets/nucls --tiles 300 --seed 0

It is prepared as osal data nucls would. A complete set made with the same parameters is left as it is."""


def synthetic(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="new folder, or one made by this tool")
    add("--tiles", type=int, default=300, help="number of tiles, 10 or more (default: 300)")
    add("--seed", type=int, default=0, help="same seed, same pixels (default: 0)")
    add("--size", type=int, default=256, help="mean side of a tile in pixels (default: 256)")
    add("--workers", type=int, help="processes (default: one a core, 8 at most)")
    add("--no-prepare", action="store_true", help="write the release only, without annotations/")
    parser.set_defaults(call=_synthetic)


def _synthetic(args) -> None:
    from ..data.nucls_prepare import prepare
    from ..data.synthetic import make_release

    started = time.monotonic()
    rendered = make_release(args.out, tiles=args.tiles, seed=args.seed, size=args.size, workers=args.workers)
    if rendered:
        print(f"{args.tiles} tiles rendered into {args.out} in {time.monotonic() - started:.1f} s")
    else:
        print(f"{args.out} is complete with these parameters, nothing rendered")
    prepared = (Path(args.out) / "annotations" / "source.json").exists()
    if not args.no_prepare and (rendered or not prepared):
        print("\n".join(prepare(args.out).lines()))
