#!/usr/bin/env python
"""Render a made-up nucleus set in the layout of NuCLS, and prepare it as tools/prepare_nucls.py would.

Example:
    python tools/make_synthetic.py --out datasets/nucls --tiles 300 --seed 0

A complete set made with the same parameters is left as it is.
"""

import argparse
import sys
import time
from pathlib import Path

from osal_detectron2.core.errors import OSALError
from osal_detectron2.data.nucls_prepare import prepare
from osal_detectron2.data.synthetic import make_release


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, metavar="DIR", help="new folder, or one made by this tool")
    p.add_argument("--tiles", type=int, default=300, help="number of tiles, 10 or more (default: 300)")
    p.add_argument("--seed", type=int, default=0, help="same seed, same pixels (default: 0)")
    p.add_argument("--size", type=int, default=256, help="mean side of a tile in pixels (default: 256)")
    p.add_argument("--workers", type=int, help="processes (default: one a core, 8 at most)")
    p.add_argument("--no-prepare", action="store_true", help="write the release only, without annotations/")
    return p


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    started = time.monotonic()
    try:
        rendered = make_release(
            args.out, tiles=args.tiles, seed=args.seed, size=args.size, workers=args.workers
        )
        if rendered:
            print(f"{args.tiles} tiles rendered into {args.out} in {time.monotonic() - started:.1f} s")
        else:
            print(f"{args.out} is complete with these parameters, nothing rendered")
        prepared = (Path(args.out) / "annotations" / "source.json").exists()
        if not args.no_prepare and (rendered or not prepared):
            print("\n".join(prepare(args.out).lines()))
    except OSALError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
