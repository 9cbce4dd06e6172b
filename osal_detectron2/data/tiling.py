"""Cut large annotated images into tiles that know where they came from. Numpy, Pillow, standard library.

Windows are half-open rectangles of the parent image in pixels, (x, y, width, height). What happens to a box
at a seam is a named rule (`CUT_RULES`):

- "center": the box belongs to every tile that holds its centre; without overlap that is exactly one tile,
  so no nucleus is lost, none is paid for twice, and the sliver in the neighbour is background there;
- "visible": the box is kept in each tile that shows at least `min_visible` of its area;
- "whole": only boxes that are not cut.

Kept boxes are clipped to their tile. Crowd regions (iscrowd 1) mark pixels, not a nucleus, and follow no
rule: every tile that they touch keeps its part.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from osal_detectron2.core.errors import DataError, OutputError
from osal_detectron2.core.store import write_bytes
from osal_detectron2.data.coco_file import MIN_SIDE, clip_box, read_coco
from osal_detectron2.data.windows import CUT_RULES, layouts, tile_spans, tile_windows

PAD_COLOR = (255, 255, 255)  # glass without tissue


def boxes_in_window(
    boxes: np.ndarray,
    crowd: np.ndarray,
    window: tuple[int, int, int, int],
    rule: str = "center",
    min_visible: float = 0.3,
) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the boxes that a tile keeps, those boxes clipped and relative to the tile).

    `boxes`: (n, 4) x, y, w, h in the parent, inside it; `crowd`: (n,) bool.
    """
    if rule not in CUT_RULES:
        raise DataError(f"rule for cut boxes {rule!r} is none of {', '.join(CUT_RULES)}")
    start = np.array(window[:2], dtype=float)
    end = start + window[2:]
    low, size = boxes[:, :2], boxes[:, 2:]
    high = low + size
    clipped_low, clipped_high = np.maximum(low, start), np.minimum(high, end)
    shown = clipped_high - clipped_low
    touches = (shown >= MIN_SIDE).all(axis=1)
    whole = (low >= start).all(axis=1) & (high <= end).all(axis=1)
    if rule == "center":
        center = low + size / 2
        keep = (center >= start).all(axis=1) & (center < end).all(axis=1)
    elif rule == "visible":
        keep = np.prod(np.maximum(shown, 0), axis=1) >= min_visible * np.prod(size, axis=1)
    else:
        keep = whole
    keep = np.flatnonzero(touches & np.where(crowd, True, keep))
    shown = np.where(whole[:, None], size, shown)  # an uncut box keeps its size to the last bit
    return keep, np.hstack([clipped_low - start, shown])[keep]


def to_parent(boxes: np.ndarray, origin: dict) -> np.ndarray:
    """Boxes (n, 4) x, y, w, h of a tile in the coordinates of its parent; `origin` is images[].origin."""
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    return boxes + np.array([origin["x"], origin["y"], 0, 0], dtype=float)


def tile_coco(
    data: dict,
    *,
    tile: int,
    overlap: int = 0,
    edge: str = "even",
    rule: str = "center",
    min_visible: float = 0.3,
) -> tuple[dict, dict]:
    """(COCO data of the tiles, counts) for the validated COCO `data` of the parents.

    Each tile image has `group` (the parent's group, else its file_name) and `origin`: {"parent": file_name,
    "x", "y": the tile's corner in the parent, "width", "height": the part of the tile that shows the parent,
    in pixels}. Each annotation has `parent_id`, the id of the box that it is a copy or a part of; masks are
    not carried over. In overlaps a box is annotated in every tile that its rule names, so that no tile shows
    an unmarked nucleus.

    Counts: images, tiles, empty_tiles, boxes, tile_boxes, cut (clipped), repeated (copies beyond the first),
    lost (boxes in no tile); "layouts" says what was done with each size of image. Raises DataError where two
    images have the same stem.
    """
    if not 0 < min_visible <= 1:
        raise DataError(f"min_visible {min_visible} is not a fraction above 0 and up to 1")
    _refuse_equal_stems(data["images"])
    by_image = {image["id"]: [] for image in data["images"]}
    for entry in data["annotations"]:
        by_image[entry["image_id"]].append(entry)
    images, annotations = [], []
    counts = dict.fromkeys(
        ("images", "tiles", "empty_tiles", "boxes", "tile_boxes", "cut", "repeated", "lost"), 0
    )
    for parent in data["images"]:
        width, height = int(parent["width"]), int(parent["height"])
        entries = by_image[parent["id"]]
        boxes = np.array([clip_box(entry["bbox"], width, height) for entry in entries]).reshape(-1, 4)
        crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in entries], dtype=bool)
        copies = np.zeros(len(entries), dtype=int)
        for window in tile_windows(width, height, tile, overlap, edge):
            image = _tile_image(parent, window, tile if edge == "pad" else None, len(images) + 1)
            kept, inside = boxes_in_window(boxes, crowd, window, rule, min_visible)
            for index, box in zip(kept, inside.tolist()):
                annotations.append(_tile_annotation(entries[index], box, image["id"], len(annotations) + 1))
                counts["cut"] += box[2:] != boxes[index, 2:].tolist()
            images.append(image)
            copies[kept] += 1
            counts["empty_tiles"] += not len(kept)
        counts["boxes"] += len(entries)
        counts["repeated"] += int(np.maximum(copies - 1, 0).sum())
        counts["lost"] += int((copies == 0).sum())
    counts.update(images=len(data["images"]), tiles=len(images), tile_boxes=len(annotations))
    counts["layouts"] = layouts(data["images"], tile=tile, overlap=overlap, edge=edge)
    if edge == "even" and all(
        tile_spans(size, tile, overlap, "even") == tile_spans(size, tile, overlap, "shift")
        for size in {int(image[side]) for image in data["images"] for side in ("width", "height")}
    ):
        # Nothing is left over and no rule decides anything: the file is that of earlier versions.
        edge = "shift"
    settings = {"tile": tile, "overlap": overlap, "edge": edge, "cut_boxes": rule}
    if rule == "visible":
        settings["min_visible"] = min_visible
    info = {**(data.get("info") or {}), "tiling": settings}
    tiles = {"info": info, "images": images, "annotations": annotations, "categories": data["categories"]}
    if "licenses" in data:
        tiles["licenses"] = data["licenses"]
    return tiles, counts


def cut_file(
    json_file: str,
    image_root: str,
    out: str,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    **settings,
) -> dict:
    """Write out/images/<stem>_x000250_y000500.png and, last, out/<name of json_file>; returns the counts of
    `tile_coco` (which takes `settings`) and "written": files that were new or changed.

    Files that are already right are left alone, so a run that broke off is finished by running it again. A
    JSON of that name with other content is refused before anything is written.
    Raises DataError for an image that is missing, damaged or not of the size that the JSON says, OutputError
    where the disk refuses.
    """
    data = read_coco(json_file)
    tiles, counts = tile_coco(data, **settings)
    out_json = Path(out) / Path(json_file).name
    content = (json.dumps(tiles, indent=1) + "\n").encode()
    if out_json.exists() and out_json.read_bytes() != content:
        raise OutputError(
            f"{out_json} was made from other input or options; remove it or choose another folder"
        )
    taken = _tiles_of_others(out_json)
    children: dict[str, list[dict]] = {image["file_name"]: [] for image in data["images"]}
    for image in tiles["images"]:
        children[image["origin"]["parent"]].append(image)
    written = 0
    for done, parent in enumerate(data["images"], start=1):
        picture = _read_rgb(
            Path(image_root) / parent["file_name"], (int(parent["width"]), int(parent["height"]))
        )
        for image in children[parent["file_name"]]:
            tile = Path(out) / "images" / image["file_name"]
            content_of_tile = _png(picture, image)
            if (other := taken.get(tile.name)) and tile.exists() and tile.read_bytes() != content_of_tile:
                raise OutputError(
                    f"{tile} is a tile of {other} with other pixels: {parent['file_name']} has the stem of another "
                    "image; rename it, in the JSON too, or choose another folder"
                )
            written += _write_if_changed(tile, content_of_tile)
        if progress:
            progress(done, len(data["images"]), parent["file_name"])
    return {**counts, "written": written + _write_if_changed(out_json, content)}


def _tiles_of_others(out_json: Path) -> dict[str, Path]:
    """{tile: file} of the other JSON files of tiles in the folder of `out_json`."""
    taken = {}
    for path in out_json.parent.glob("*.json"):
        if path != out_json and '"tiling"' in (text := path.read_text(encoding="utf-8", errors="replace")):
            images = json.loads(text)["images"]
            taken |= {image["file_name"]: path for image in images if "origin" in image}
    return taken


def _refuse_equal_stems(images: list[dict]) -> None:
    seen: dict[str, str] = {}
    for image in images:
        name = image["file_name"]
        stem = _stem(name).casefold()  # some file systems do not tell A.png from a.png
        if stem in seen:
            raise DataError(
                f"images {seen[stem]} and {name} have the same stem {_stem(name)!r}, so their tiles would "
                "have the same names; rename one, in the JSON too"
            )
        seen[stem] = name


def _stem(file_name: str) -> str:
    return PurePosixPath(file_name.replace("\\", "/")).stem


def _tile_image(parent: dict, window: tuple[int, int, int, int], padded: int | None, image_id: int) -> dict:
    x, y, width, height = window
    group = parent.get("group")
    return {
        "id": image_id,
        "file_name": f"{_stem(parent['file_name'])}_x{x:06d}_y{y:06d}.png",
        "width": padded or width,
        "height": padded or height,
        "group": parent["file_name"] if group in (None, "") else str(group),
        "origin": {"parent": parent["file_name"], "x": x, "y": y, "width": width, "height": height},
    }


def _tile_annotation(entry: dict, box: list[float], image_id: int, annotation_id: int) -> dict:
    fraction = box[2] * box[3] / (float(entry["bbox"][2]) * float(entry["bbox"][3]))
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": entry["category_id"],
        "bbox": box,
        "area": fraction * entry["area"] if entry.get("area") else box[2] * box[3],
        "iscrowd": int(entry.get("iscrowd", 0)),
        "parent_id": entry["id"],
    }


def _read_rgb(path: Path, size: tuple[int, int]) -> Image.Image:
    """The picture as Detectron2 would show it to the model: RGB, turned as its EXIF tag says."""
    try:
        with Image.open(path) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such image; check the image root") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: too large to decode at once; cut it first with a slide reader") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a damaged file
        raise DataError(f"{path}: cannot be decoded ({error}); copy the image again") from None
    if picture.size != size:
        raise DataError(
            f"{path}: is {picture.width}x{picture.height} pixels, the JSON says {size[0]}x{size[1]}; boxes "
            "would be misplaced: correct the JSON or the image"
        )
    return picture


def _png(picture: Image.Image, image: dict) -> bytes:
    origin = image["origin"]
    left, top = origin["x"], origin["y"]
    part = picture.crop((left, top, left + origin["width"], top + origin["height"]))
    if part.size != (image["width"], image["height"]):
        padded = Image.new("RGB", (image["width"], image["height"]), PAD_COLOR)
        padded.paste(part, (0, 0))
        part = padded
    stream = io.BytesIO()
    part.save(stream, format="PNG")
    return stream.getvalue()


def _write_if_changed(path: Path, content: bytes) -> bool:
    if path.exists() and path.read_bytes() == content:
        return False
    write_bytes(path, content)
    return True
