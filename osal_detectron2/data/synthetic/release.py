"""Write a synthetic set in the layout of the NuCLS release, with its quirks, for the same reader."""

import csv
import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...core.errors import ConfigError, DataError, OutputError
from ...core.store import write_bytes
from ..nucls_splits import assign_folds
from .classes import KINDS
from .composition import CLASS_NAMES, choose_themes, count_nuclei
from .render import render_tile
from .tissue import Style, build_tissue, draw_style, place_nuclei

SCHEMA = "osal-synthetic/1"
MANIFEST = "synthetic.json"
HEADER = (
    "", "raw_classification", "main_classification", "super_classification", "type",
    "xmin", "ymin", "xmax", "ymax", "coords_x", "coords_y",
)  # fmt: skip
HOSPITALS = "A2 AR E2 BH C8 D8 OL AN AO EW S3 A7 A1 GM LL HN AC GI".split()
AMBIGUOUS_SHARE = 0.05


@dataclass(frozen=True)
class TilePlan:
    """Everything needed to render one tile, whichever process does it."""

    stem: str
    theme: str
    counts: tuple[int, ...]
    height: int
    width: int
    style: Style
    seed: tuple[int, ...]


def make_release(out, tiles=300, seed=0, size=256, workers=None):
    """Render a release into OUT/{rgb,csv,train_test_splits}, or leave it if it is there already.

    The pixels and labels depend on tiles, seed and size only, not on the number of workers.

    Args:
        out: folder; it is taken over if empty or made by this function, and refused otherwise.
        tiles: number of tiles, at least 10.
        seed: of everything.
        size: mean side of a tile in pixels; sides vary by a fifth. Nuclei keep their size.
        workers: processes; default one a core, 8 at most.

    Returns:
        True if rendered, False if a complete set with the same parameters was there.

    Raises:
        ConfigError: a parameter that cannot work. DataError: OUT holds something else.
        OutputError: the disk is full or the folder cannot be written.
    """
    if tiles < 10:
        raise ConfigError(f"tiles is {tiles}: five folds by slide and hospital need 10 or more")
    if not 64 <= size <= 2048:
        raise ConfigError(f"size is {size}: use 64 to 2048 pixels")
    out = Path(out)
    manifest = {"schema": SCHEMA, "tiles": tiles, "seed": seed, "size": size}
    try:
        if _is_complete(out, manifest):
            return False
        _clear(out)
        _write_manifest(out, manifest | {"complete": False})
        plans = plan_tiles(tiles=tiles, seed=seed, size=size)
        _write_splits(out, plans, seed)
        _render_all(out, plans, workers)
        _write_manifest(out, manifest | {"complete": True})
    except OSError as err:
        raise OutputError(
            f"{out}: cannot write ({err.strerror or err}); free space or choose another --out"
        ) from None
    return True


def plan_tiles(tiles, seed, size):
    """One TilePlan a tile: slides, hospitals, styles, themes and counts of nuclei."""
    rng = np.random.default_rng([seed, tiles, size])
    n_slides = max(10, tiles // 6)
    n_hospitals = min(len(HOSPITALS), max(5, n_slides // 3))
    weights = 1 / np.arange(1, n_hospitals + 1) ** 0.7  # few large hospitals, many small ones
    hospital = [
        *range(n_hospitals),
        *rng.choice(n_hospitals, n_slides - n_hospitals, p=weights / weights.sum()),
    ]
    slides = [f"TCGA-{HOSPITALS[h]}-{_code(rng)}-DX1" for h in hospital]
    if len(set(slides)) < n_slides:  # one code drawn twice
        slides = [
            f"{name[:-4]}{i % 10}-DX1" if slides.index(name) != i else name for i, name in enumerate(slides)
        ]
    styles = [draw_style(rng) for _ in slides]
    slide_of = sorted([*range(n_slides), *rng.integers(0, n_slides, tiles - n_slides)])
    sides = np.rint(size * rng.uniform(0.8, 1.2, (tiles, 2))).astype(int)
    themes = choose_themes(slide_of, rng)
    counts = count_nuclei(themes, sides.prod(axis=1), rng, standard_area=256 * 256)
    plans = []
    for i, slide in enumerate(slide_of):
        height, width = (int(s) for s in sides[i])
        left, top = (int(v) for v in rng.integers(5000, 60000, 2))
        ident = "".join(f"{b:02x}" for b in rng.integers(0, 256, 12))
        bottom, right = top + height * 4 // 5, left + width * 4 // 5  # level 0 is coarser than the PNG
        stem = f"{slides[slide]}_id-{ident}_left-{left}_top-{top}_bottom-{bottom}_right-{right}"
        number, stream = tuple(int(c) for c in counts[i]), (seed, tiles, size, i)
        plans.append(TilePlan(stem, themes[i], number, height, width, styles[slide], stream))
    return plans


def render_plan(plan):
    """(PNG bytes, CSV rows) of one tile."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(plan.seed)
    kinds = [_raw_class(name, plan.theme, rng) for name, n in zip(CLASS_NAMES, plan.counts) for _ in range(n)]
    kinds += list(
        rng.choice(["unlabeled", "apoptotic_body"], rng.binomial(len(kinds), AMBIGUOUS_SHARE), p=[0.6, 0.4])
    )
    tumor = plan.counts[CLASS_NAMES.index("tumor")]
    tissue = build_tissue(plan.theme, tumor, plan.height, plan.width, rng)
    places = place_nuclei(kinds, tissue, plan.style, rng)
    image, boxes = render_tile(places, tissue, plan.style, rng)
    rows = [_row(place.kind, box, rng) for place, box in zip(places, boxes)]
    if rows and rng.random() < 0.02:  # a click without a drag
        rows.append(_row("tumor", (9, 9, 9, 9), rng, jitter=0))
    rng.shuffle(rows)
    ok, png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert ok
    return png.tobytes(), [[i, *row] for i, row in enumerate(rows)]


def _raw_class(name, theme, rng):
    if name == "stromal":
        return "vascular_endothelium" if rng.random() < 0.15 else "fibroblast"
    if name == "other":
        ducts = ("ductal_epithelium", "ductal_epithelium", "myoepithelium")
        return str(rng.choice(ducts if theme == "duct" else ("neutrophil", "eosinophil")))
    return name


def _row(kind, box, rng, jitter=1):
    """One line of the CSV. The hand shakes by a pixel, a fifth are polygons, some were corrected."""
    look = KINDS[kind]
    x0, y0, x1, y1 = (int(v + s) for v, s in zip(box, rng.integers(-jitter, jitter + 1, 4)))
    raw = f"correction_{kind}" if rng.random() < 0.1 else kind
    if rng.random() < 0.2:
        xs = (x0, (x0 + x1) // 2, x1, (x0 + x1) // 2, x0)
        ys = ((y0 + y1) // 2, y0, (y0 + y1) // 2, y1, (y0 + y1) // 2)
        kind_of_mark = "polyline"
    else:
        xs, ys, kind_of_mark = (x0, x1, x1, x0, x0), (y0, y0, y1, y1, y0), "rectangle"
    coords = (",".join(map(str, values)) for values in (xs, ys))
    return [raw, look.main, look.super, kind_of_mark, x0, y0, x1, y1, *coords]


def _render_all(out, plans, workers):
    workers = workers or min(8, os.cpu_count() or 1)
    for folder in ("rgb", "csv"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    jobs = [(out, plan) for plan in plans]
    if workers == 1 or len(plans) < 20:
        for job in jobs:
            _render_to_disk(job)
        return
    # spawn: a fork of a process that has started threads can hang
    with multiprocessing.get_context("spawn").Pool(min(workers, len(plans))) as pool:
        for _ in pool.imap_unordered(_render_to_disk, jobs, chunksize=4):
            pass


def _render_to_disk(job):
    out, plan = job
    png, rows = render_plan(plan)
    (out / "rgb" / f"{plan.stem}.png").write_bytes(png)
    with open(out / "csv" / f"{plan.stem}.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([HEADER, *rows])


def _write_splits(out, plans, seed):
    """fold_1 to 5 by hospital, as in the release, and its tiny debug split 999."""
    folder = out / "train_test_splits"
    folder.mkdir(parents=True, exist_ok=True)
    slides = [plan.stem.split("_id-")[0] for plan in plans]
    folds = assign_folds([slide.split("-")[1] for slide in slides], seed=seed)
    names = list(dict.fromkeys(slides))
    parts = {k: {s for s, f in zip(slides, folds) if f == k - 1} for k in range(1, 6)}
    for k, test in [*parts.items(), (999, {names[-1]})]:
        train = names[:2] if k == 999 else [s for s in names if s not in test]
        for part, members in (("train", train), ("test", [s for s in names if s in test])):
            lines = [",slide_name", *(f"{i},{s}" for i, s in enumerate(members))]
            (folder / f"fold_{k}_{part}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _code(rng):
    return "A" + "".join(rng.choice(list("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"), 3))


def _read_manifest(out):
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def _is_complete(out, manifest):
    if _read_manifest(out) != manifest | {"complete": True}:
        return False
    counts = [sum(1 for _ in (out / f).glob(f"*.{s}")) for f, s in (("rgb", "png"), ("csv", "csv"))]
    return counts == [manifest["tiles"]] * 2


def _clear(out):
    """Remove an unfinished or different set of ours; refuse to touch anybody else's images."""
    ours = _read_manifest(out) is not None
    for folder, suffix in (
        ("rgb", "png"),
        ("csv", "csv"),
        ("train_test_splits", "csv"),
        ("annotations", "json"),
    ):
        for path in (out / folder).glob(f"*.{suffix}"):
            if not ours:
                raise DataError(
                    f"{out}: holds {folder}/{path.name}, which is not synthetic; choose another --out"
                )
            path.unlink()


def _write_manifest(out, manifest):
    write_bytes(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
