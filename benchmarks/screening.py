r"""Which rule of selection saves annotators' seconds, by fixed proposals, fixed features and a convex classifier.

    python benchmarks/screening.py localiser --tiles datasets/consep_tiles --out output/localiser_data
    python benchmarks/screening.py features --data consep --localiser output/localiser --cache output/screening/cache
    python benchmarks/screening.py run --cache output/screening/cache --output output/screening/cells \
        --settings 3_4 --sides 250 --costs default --policies drop --arms random osal_nd_plus --seeds 0-7
    python benchmarks/screening.py table --output output/screening/cells --out benchmarks/screening

`run` leaves cells alone that are there, so the same command goes on after a stop; --max-minutes ends it early; --split
is validation, official or resampled. benchmarks/protocol.md says what is decided; benchmarks/README.md how the
localiser is trained.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from functools import lru_cache
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocol.agreement import EVERYTHING  # noqa: E402
from protocol.cell import CellName, full_annotation, run_cell  # noqa: E402
from protocol.detector import POLICIES, Recipe  # noqa: E402
from protocol.frozen import class_agnostic  # noqa: E402
from protocol.paired import seconds_to_reach, share_of_seconds  # noqa: E402
from protocol.pool import (  # noqa: E402
    KNOWN,
    LOCALISER_IMAGES,
    SPLITS,
    VALIDATION_IMAGES,
    FeatureSpace,
    Scene,
    build_scene,
    read_cache,
    split_images,
)
from protocol.price import COSTS  # noqa: E402
from protocol.report import write_report  # noqa: E402
from protocol.rules import ARMS  # noqa: E402

from osal_detectron2.benchmark.provenance import commit, hardware  # noqa: E402
from osal_detectron2.core.errors import OSALError  # noqa: E402
from osal_detectron2.core.store import write_json  # noqa: E402
from osal_detectron2.evaluation.table import markdown_table  # noqa: E402

DRAWN = [
    *("random", "random_spread", "uncertainty_per_second", "information_per_second"),
    *("looks_per_second", "osal_nd", "osal_nd_plus", "oracle_plus_per_second"),
]


def localiser(args) -> None:
    """The data of the class-agnostic localiser: tiles of its own four images, and two validation images to look at."""
    data = json.loads((args.tiles / "train.json").read_text())
    write_json(args.out / "train.json", class_agnostic(data, LOCALISER_IMAGES))
    write_json(args.out / "test.json", class_agnostic(data, VALIDATION_IMAGES[::3]))


def features(args) -> None:
    """Cache every image; images that are there are left alone."""
    import torch
    from protocol.features import ImageNetFeatures, Localiser, cache_image

    torch.set_num_threads(1)
    imagenet, localiser = ImageNetFeatures(args.weights), Localiser(args.localiser)
    for split in ("train", "test"):
        data = json.loads((args.data / f"{split}.json").read_text())
        names = {c["id"]: c["name"] for c in data["categories"]}
        for image in data["images"]:
            path = args.cache / (Path(image["file_name"]).stem + ".npz")
            if path.exists():
                continue
            mine = [
                {"bbox": a["bbox"], "class": names[a["category_id"]]}
                for a in data["annotations"]
                if a["image_id"] == image["id"]
            ]
            image_path = args.data / "images" / image["file_name"]
            cache_image(path, image_path, mine, imagenet=imagenet, localiser=localiser)
            print(path, flush=True)


@lru_cache(maxsize=1)
def cached_images(cache: Path) -> dict[str, dict]:
    return read_cache(cache)


@lru_cache(maxsize=1)
def feature_space(
    cache: Path, pool: tuple[str, ...], parts: tuple[str, ...], dim: int, shrink: float
) -> FeatureSpace:
    images = cached_images(cache)
    return FeatureSpace.fit([images[name] for name in pool], parts, dim=dim, shrink=shrink)


@lru_cache(maxsize=8)
def scene(cache: Path, names: tuple[str, ...], space: FeatureSpace, setting: str, side: int | None) -> Scene:
    images = cached_images(cache)
    return build_scene({name: images[name] for name in names}, space, KNOWN[setting], side=side)


def run(args) -> None:
    """Every cell that is not there yet, seeds first, until --max-minutes."""
    until = time.monotonic() + 60 * args.max_minutes
    recipe, code = Recipe(args.penalty, args.per_nucleus), commit(Path(__file__).parent)
    for seed in args.seeds:
        pool, test = map(tuple, split_images(list(cached_images(args.cache)), args.split, seed))
        for setting, side, cost, policy in product(args.settings, args.sides, args.costs, args.policies):
            first = {}
            for arm in args.arms:
                name = CellName(setting, side, cost, policy, arm, seed)
                path = args.output / args.split / f"{name}.json"
                if path.exists():
                    continue
                if time.monotonic() > until:
                    return
                space = feature_space(args.cache, pool, tuple(args.parts), args.dim, args.shrink)
                scenes = [
                    scene(args.cache, *part)
                    for part in ((pool, space, setting, side), (test, space, setting, None))
                ]
                cell = run_cell(name, *scenes, recipe=recipe, first=first)
                write_json(path, cell | {"split": args.split, "commit": code})
                print(f"{name} {cell['points'][-1]['mAP50']:.2f} {cell['cpu_seconds']:.1f} s", flush=True)


def full(args) -> None:
    """What all tiles of 250 px give under `drop`, and how soon each arm has 90 % of it.

    The tiles themselves become cells of the arm "all", in a folder of their own, for the judge.
    """
    pool, test = map(tuple, split_images(list(cached_images(args.cache)), "official", 0))
    space = feature_space(args.cache, pool, tuple(args.parts), args.dim, args.shrink)
    rows = []
    for setting in args.settings:
        parts = ((pool, space, setting, 250), (test, space, setting, None))
        scenes = [scene(args.cache, *part) for part in parts]
        recipe = Recipe(args.penalty, args.per_nucleus)
        points = {
            policy: full_annotation(*scenes, COSTS["default"], policy=policy, recipe=recipe)
            for policy in POLICIES
        }
        for policy, seed in product(POLICIES, args.seeds):
            name = CellName(setting, 250, "default", policy, EVERYTHING, seed)
            cell = asdict(name) | {"known_classes": list(scenes[0].known), "points": [points[policy]]}
            write_json(args.output / "full" / f"{name}.json", cell)
        point = points["drop"]
        title, level = setting.replace("_", "+"), 0.9 * point["mAP50"]
        rows.append(
            [title, "all tiles", "drop", f"{point['mAP50']:.1f}", f"{point['seconds']:,.0f} s", "", ""]
        )
        found = sorted((args.output / "official").glob(f"{setting}-250-default-*.json"))
        cells = [c for c in map(json.loads, map(Path.read_text, found)) if c["seed"] in args.seeds]
        for key, share in share_of_seconds(cells, level).items():
            same = [c for c in cells if (c["policy"], c["arm"]) == key[3:]]
            mean = sum(min(seconds_to_reach(c, level), 1e9) for c in same) / len(same)
            spent = f"{mean:,.0f} s" if share.n == len(same) else "-"
            interval = f"{share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]"
            rows.append([title, key[4], key[3], f"{level:.1f}", spent, interval, f"{share.n} of {len(same)}"])
    headers = [
        "setting",
        "arm",
        "unknown",
        "mAP50",
        "seconds to it",
        "share of Random's",
        "seeds that reach it",
    ]
    print(markdown_table(headers, rows))


def table(args) -> None:
    """summary.json, table.md and curves.png of all cells of a split."""
    cells = [json.loads(path.read_text()) for path in sorted((args.output / args.split).glob("*.json"))]
    cells = [cell for cell in cells if args.seeds is None or cell["seed"] in args.seeds]
    if not cells:
        raise OSALError(f"{args.output / args.split}: no cell yet; `benchmarks/screening.py run` makes them")
    about = {"split": args.split, "commits": sorted({c["commit"] for c in cells}), "hardware": hardware()}
    write_report(args.out, cells, about=about, arms=args.draw)


def seed_list(text: str) -> list[int]:
    """ "0-3,7" is [0, 1, 2, 3, 7]."""
    ends = [part.split("-") for part in text.split(",")]
    return [seed for part in ends for seed in range(int(part[0]), int(part[-1]) + 1)]


def tuned(one: argparse.ArgumentParser) -> None:
    """Options of the recipe, chosen on the validation images."""
    one.add_argument("--parts", nargs="+", default=["imagenet", "localiser"], help="features (tuned)")
    one.add_argument("--dim", type=int, default=128, help="principal components (tuned)")
    one.add_argument("--shrink", type=float, default=10.0, help="of their variances (tuned)")
    one.add_argument("--penalty", type=float, default=10.0, help="of the regression (tuned)")
    one.add_argument(
        "--per-nucleus",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="penalty / labelled nuclei (tuned)",
    )


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("localiser", help="write the data that the localiser is trained on")
    one.add_argument("--tiles", type=Path, required=True, help="tiles of 250 px (osal data tile)")
    one.add_argument("--out", type=Path, required=True, help="folder of train.json and test.json")
    one.set_defaults(call=localiser)
    one = commands.add_parser("features", help="cache proposals and features of every image")
    one.add_argument("--data", type=Path, required=True, help="folder of train.json, test.json and images/")
    one.add_argument("--weights", type=Path, default=Path("datasets/weights/mobilenet_v2_imagenet.pth"))
    one.add_argument(
        "--localiser", type=Path, required=True, help="OUTPUT_DIR of the class-agnostic detector"
    )
    one.add_argument("--cache", type=Path, required=True)
    one.set_defaults(call=features)
    one = commands.add_parser("run", help="run the cells that are missing")
    one.add_argument("--cache", type=Path, required=True)
    one.add_argument("--output", type=Path, required=True, help="folder of the cells, one file each")
    one.add_argument("--split", choices=SPLITS, default="official")
    one.add_argument("--settings", nargs="+", choices=list(KNOWN), default=["3_4", "2_5"])
    one.add_argument("--sides", nargs="+", type=int, default=[250, 125], help="of the regions in pixels")
    one.add_argument("--costs", nargs="+", choices=list(COSTS), default=["default"])
    one.add_argument("--policies", nargs="+", choices=POLICIES, default=["drop"], help="for unknown nuclei")
    one.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    one.add_argument("--seeds", type=seed_list, default=seed_list("0-19"), help="such as 0-19 or 0,3,5")
    one.add_argument("--max-minutes", type=float, default=1e9, help="no cell begins later than this")
    tuned(one)
    one.set_defaults(call=run)
    one = commands.add_parser("full", help="print how soon each arm has 90 %% of what all tiles give")
    one.add_argument("--cache", type=Path, required=True)
    one.add_argument("--output", type=Path, required=True, help="folder of the cells")
    one.add_argument("--settings", nargs="+", choices=list(KNOWN), default=["3_4", "2_5"])
    one.add_argument("--seeds", type=seed_list, default=seed_list("0-19"))
    tuned(one)
    one.set_defaults(call=full)
    one = commands.add_parser("table", help="summary, table and figure of the cells that are there")
    one.add_argument("--output", type=Path, required=True, help="folder of the cells")
    one.add_argument("--split", choices=SPLITS, default="official")
    one.add_argument(
        "--out", type=Path, required=True, help="folder of summary.json, table.md and curves.png"
    )
    one.add_argument("--seeds", type=seed_list, help="only these, where a run is half-way; all by default")
    one.add_argument("--draw", nargs="+", default=DRAWN, help="arms in the figure")
    one.set_defaults(call=table)
    args = parser.parse_args(argv)
    try:
        args.call(args)
    except OSALError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
