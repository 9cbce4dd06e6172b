"""Reading what people send back as COCO: one file against the exact batch, nothing guessed."""

from collections.abc import Collection, Mapping

from ..exchange.batch import PENDING, Request, RequestedTile
from .matching import match_classes, match_images
from .returned import Box, Returned, ReturnedTile, answer

MOST_BOXES = 5000  # in a tile; all pairs are compared
_LARGEST = 1e15  # of a coordinate; JSON has integers that are no float
_IDS = (int, float, str)


def read_coco(
    content: object,
    request: Request,
    *,
    pool: Collection[str] = frozenset(),
    map_class: Mapping[str, str] | None = None,
    skip_other_tiles: bool = False,
    treat_empty_as: str = PENDING,
    opened: Collection[str] | str | None = None,
    accept: Collection[str] = (),
    annotator: str = "human",
) -> Returned:
    """Check parsed COCO JSON against `request`.

    pool: all image keys of the run; such a name means that tile and no other. map_class: {name in the file:
    name in the batch}. skip_other_tiles: leave out images that are not of the batch instead of refusing the file.
    The rest: `returned.answer`. A box comes from "bbox", or where there is none from the polygons of "segmentation".
    """
    result = Returned()
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        result.problems.append(
            "is not COCO JSON: it needs the lists images, annotations and categories; export COCO"
        )
        return result
    if not all(isinstance(entry, dict) for name in lists for entry in content[name]):
        result.problems.append("images, annotations and categories must hold objects; export COCO again")
        return result

    if not all(isinstance(image.get("id"), _IDS) for image in content["images"] + content["categories"]):
        result.problems.append("images and categories must each have an id, a number or text; export again")
        return result
    for annotation in content["annotations"]:
        if not all(isinstance(annotation.get(name), _IDS) for name in ("image_id", "category_id")):
            result.problems.append(
                f"annotation {annotation.get('id')!r}: needs image_id and category_id; export again"
            )
    if result.problems:
        return result
    images = match_images(
        content["images"],
        request,
        pool=pool,
        accept_names="names" in accept,
        skip_other_tiles=skip_other_tiles,
        result=result,
    )
    keys = {image["id"]: key for key, image in images.items()}
    known_ids = {image["id"] for image in content["images"]}
    other_ids = known_ids - keys.keys() if skip_other_tiles else set()
    annotations = [a for a in content["annotations"] if a["image_id"] not in other_ids]
    names = match_classes(content, [a["category_id"] for a in annotations], request, map_class or {}, result)
    boxes: dict[str, list[Box]] = {key: [] for key in images}
    for annotation in annotations:
        label = f"annotation {annotation.get('id')!r}"
        if annotation["image_id"] not in known_ids:
            result.problems.append(
                f"{label}: image_id {annotation['image_id']!r} is not among the images; export again"
            )
        elif (key := keys.get(annotation["image_id"])) is not None:
            box = _read_box(annotation, request.tiles[key], f"{label} (tile {key})", result)
            name = names.get(annotation["category_id"])
            if box is not None and name is not None:
                boxes[key].append((name, *box))
    for key in (key for key in boxes if len(boxes[key]) > MOST_BOXES):
        result.problems.append(
            f"tile {key}: has {len(boxes[key])} boxes, more than {MOST_BOXES}; something went wrong: export again"
        )
        boxes[key] = []
    answer(
        {key: ReturnedTile(boxes[key], image.get("review")) for key, image in images.items()},
        request,
        treat_empty_as=treat_empty_as,
        opened=opened,
        accept=accept,
        annotator=annotator,
        result=result,
    )
    result.present = {key: image["file_name"] for key, image in images.items()}
    return result


def _read_box(annotation: dict, tile: RequestedTile, label: str, result: Returned) -> tuple | None:
    """(x, y, w, h) clipped to the tile, or None with a problem."""
    box, outline = annotation.get("bbox"), annotation.get("segmentation")
    if box in (None, []) and isinstance(outline, dict):
        result.problems.append(f"{label}: has a mask (RLE) and no bbox; export boxes or polygons")
        return None
    if box in (None, []) and outline:
        box = _around(outline)
        if box is None:
            result.problems.append(
                f"{label}: its segmentation is no list of polygons [x1, y1, x2, y2, ...]; export again"
            )
            return None
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        result.problems.append(
            f"{label}: bbox is {box!r}, not [x, y, width, height]; correct it or export again"
        )
    elif not all(abs(value) < _LARGEST for value in box) or box[2] <= 0 or box[3] <= 0:
        result.problems.append(
            f"{label}: bbox is {box!r}; width and height must be above 0: draw it again or delete it"
        )
    elif annotation.get("iscrowd"):
        result.problems.append(f"{label}: marks a crowd; draw one box for each nucleus")
    else:
        x, y, w, h = map(float, box)
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, tile.width), min(y + h, tile.height)
        if right > left and bottom > top:
            if left > x or top > y or right < x + w or bottom < y + h:
                if max(left - x, top - y, x + w - right, y + h - bottom) > 1:
                    result.notes.append(f"{label}: bbox {box!r} was cut at the border of the tile")
                return left, top, right - left, bottom - top
            return x, y, w, h
        result.problems.append(
            f"{label}: bbox {box!r} is outside the tile ({tile.width} x {tile.height}); move it or delete it"
        )
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _around(polygons: object) -> list[float] | None:
    """The box [x, y, w, h] around the polygons of a "segmentation"; None if it has no such form."""
    if not isinstance(polygons, list) or not all(isinstance(p, list) and len(p) % 2 == 0 for p in polygons):
        return None
    points = [value for polygon in polygons for value in polygon]
    if len(points) < 6 or not all(map(_is_number, points)):
        return None
    xs, ys = points[::2], points[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
