"""Predict on images and write what was found: COCO results, GeoJSON for QuPath, overlays."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from detectron2.data.detection_utils import read_image

from ..core.errors import ConfigError, DataError
from ..core.store import write_bytes, write_json
from ..evaluation.open_set_check import prediction_warning
from ..modeling.roi_heads import box_predictors
from .detect import detect, unknown_rule
from .geojson import feature_collection
from .images import records_of_coco, records_of_folder
from .load import load_detector
from .overlay import overlay_png
from .seams import merge_windows
from .training_tile import training_tile

FORMATS = ("coco", "geojson", "overlay")
BOUND_IN_TILES = 2  # a larger image is cut into windows of the training tile's size
UNKNOWN_TILE_BOUND = 1000  # pixels; beyond it the size of the windows has to be known


def predict(
    path: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    json_file: str | Path | None = None,
    image_root: str | Path | None = None,
    score_thresh: float = 0.3,
    formats: Sequence[str] = FORMATS,
    rule: str = "proto",
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int = 4,
    device: str = "cpu",
) -> dict:
    """Run the detector of `path` (see `load_detector`) and write to `out`; the same call writes the same files.

    Args:
        images: a folder of images; or json_file, a COCO file, with the image_root of its images.
        score_thresh: lowest score that is written.
        formats: some of FORMATS. rule: see `unknown_rule`.
        tile: side in pixels of the windows that images larger than twice that are cut into; None: as the training
            tiles; 0: images stay whole.
        overlap: pixels that neighbouring windows share; None: a quarter of the tile. Nuclei should be smaller.

    Returns:
        {"images": n, "detections": n, "looks_unknown": n or None, "per_class": {name: n}, "warning": text or None}; the
        warning says where prototypes that were trained with this run tell nothing apart (evaluation/open_set_check.py).

    Raises:
        ConfigError, DataError: what was given cannot work, before anything is written. OutputError.
    """
    unknown_formats = [name for name in formats if name not in FORMATS]
    if unknown_formats or not formats:
        raise ConfigError(f"--formats {','.join(formats)}: choose some of {','.join(FORMATS)}")
    if not 0 <= score_thresh <= 1:
        raise ConfigError(f"--score-thresh {score_thresh}: give a number from 0 to 1")
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: give at least 1")
    detector = load_detector(path, device=device)
    if images is not None:
        records, categories = records_of_folder(images), {}
    else:
        records, categories = records_of_coco(json_file, image_root)
    out = Path(out)
    refuse_inside(out, [detector.folder, images])
    logger = logging.getLogger(__name__)
    own = box_predictors(detector.target.roi_heads)[-1].test_score_thresh
    if score_thresh < own:
        logger.warning("the detector drops scores below %g (MODEL.ROI_HEADS.SCORE_THRESH_TEST)", own)
    rule, sentence = unknown_rule(detector, rule)
    logger.info(sentence)
    side = window_side(records, tile, training_tile(detector) if tile is None else None)
    tables = detect(
        detector,
        records,
        score_thresh=score_thresh,
        rule=rule,
        tile=side,
        overlap=side // 4 if overlap is None else overlap,
        bound=BOUND_IN_TILES * side,
        batch_size=batch_size,
    )
    classes = detector.classes
    names = output_names([record["image_key"] for record in records])
    if "geojson" in formats:
        for record, table in zip(records, tables):
            path = out / "geojson" / f"{names[record['image_key']]}.geojson"
            _write_compact(path, feature_collection(table, classes))
        whole = parents(records, tables)
        names_of_parents = output_names(list(whole))
        for parent, table in whole.items():
            path = out / "geojson_parents" / f"{names_of_parents[parent]}.geojson"
            _write_compact(path, feature_collection(table, classes))
    if "overlay" in formats:
        for record, table in zip(records, tables):
            picture = overlay_png(read_image(record["file_name"], format="RGB"), table, classes)
            write_bytes(out / "overlays" / f"{names[record['image_key']]}.png", picture)
    if "coco" in formats:
        ids = category_ids(classes, categories)
        write_json(out / "images.json", coco_images(records, ids))
        _write_compact(out / "detections.json", coco_results(records, tables, [ids[n] for n in classes]))
    found = np.concatenate([table["classes"] for table in tables])
    flags = np.concatenate([table["looks_unknown"] for table in tables]) if rule else np.zeros(0)
    looks = {"look_known": int((flags == 0).sum()), "look_unknown": int((flags == 1).sum())}
    return {
        "images": len(records),
        "detections": len(found),
        "looks_unknown": looks["look_unknown"] if rule else None,
        "per_class": {name: int((found == index).sum()) for index, name in enumerate(classes)},
        "warning": prediction_warning(detector.folder, **looks) if rule in ("proto", "both") else None,
    }


def window_side(records: Sequence[dict], tile: int | None, trained_on: int | None) -> int:
    """The side of windows in pixels; 0: no image is cut. Raises ConfigError where it must be known and is not."""
    if tile is not None:
        return tile
    if trained_on is not None:
        return trained_on
    for record in records:
        if max(record["width"], record["height"]) > UNKNOWN_TILE_BOUND:
            raise ConfigError(
                f"{record['file_name']} is {record['width']}x{record['height']} pixels, and how large the training "
                "tiles were is not to be found: give --tile with their side in pixels, or 0 to leave images whole"
            )
    return 0


def output_names(keys: Sequence[str]) -> dict[str, str]:
    """{image key: name of its files}: without the suffix, where no other image has the same name then."""
    bare = {key: str(PurePosixPath(key).with_suffix("")) for key in keys}
    number = Counter(name.casefold() for name in bare.values())  # some file systems do not tell A from a
    return {key: name if number[name.casefold()] == 1 else key for key, name in bare.items()}


def parents(
    records: Sequence[dict], tables: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    """{parent image: detections of all its tiles in its pixels}, for tiles that know their origin."""
    children: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if "origin" in record:
            children.setdefault(record["origin"]["parent"], []).append(index)
    merged = {}
    for parent, indices in sorted(children.items()):
        extents = []
        for record in (records[i] for i in indices):
            origin = record["origin"]
            width, height = (origin.get(side, record[side]) for side in ("width", "height"))
            extents.append((origin["x"], origin["y"], width, height))
        merged[parent] = merge_windows([tables[i] for i in indices], extents)
    return merged


def category_ids(classes: Sequence[str], present: Mapping[str, int]) -> dict[str, int]:
    """{class: COCO category id}: as in the file that was predicted on, further classes after its largest id."""
    ids = {name: number for name, number in present.items() if name in classes}
    following = max(present.values(), default=0) + 1
    for name in classes:
        if name not in ids:
            ids[name], following = following, following + 1
    return ids


def coco_images(records: Sequence[dict], ids: Mapping[str, int]) -> dict:
    """The COCO file to which the results refer: images and the detector's categories, without annotations."""
    images = []
    for record in records:
        entry = {"id": record["image_id"], "file_name": record["image_key"]}
        entry |= {name: record[name] for name in ("width", "height", "origin") if name in record}
        images.append(entry)
    categories = [
        {"id": number, "name": name} for name, number in sorted(ids.items(), key=lambda item: item[1])
    ]
    return {"images": images, "annotations": [], "categories": categories}


def coco_results(
    records: Sequence[dict], tables: Sequence[Mapping[str, np.ndarray]], category_ids: Sequence[int]
) -> list[dict]:
    """COCO results, with the further columns of the tables as further keys; looks_unknown is true, false or null."""
    results = []
    for record, table in zip(records, tables):
        further = [name for name in table if name not in ("boxes", "scores", "classes", "looks_unknown")]
        for row, (x0, y0, x1, y1) in enumerate(table["boxes"].astype(float).tolist()):
            result = {
                "image_id": record["image_id"],
                "category_id": category_ids[int(table["classes"][row])],
                "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(table["scores"][row]), 6),
                **{name: round(float(table[name][row]), 6) for name in further},
            }
            if "looks_unknown" in table:
                flag = table["looks_unknown"][row]
                result["looks_unknown"] = None if np.isnan(flag) else bool(flag)
            results.append(result)
    return results


def _write_compact(path: Path, content: object) -> None:
    """JSON on one line: an indented slide of 100,000 nuclei takes three times the space."""
    write_bytes(path, json.dumps(content, allow_nan=False, separators=(",", ":")).encode())


def refuse_inside(out: Path, folders: Sequence[str | Path | None]) -> None:
    """Raise DataError where `out` lies in one of the folders that are only read."""
    for folder in folders:
        if folder is not None and out.resolve().is_relative_to(Path(folder).resolve()):
            raise DataError(f"--out {out} is inside {folder}, which is only read; choose another folder")
