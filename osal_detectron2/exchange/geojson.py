"""GeoJSON of QuPath: one file a tile, or one a slide where the tiles were cut from it (their images[].origin).

Each tile has a frame, an annotation with the tile's key as its name, whose class says where the tile stands. A frame
also says what the coordinates are: those of the tile, or of the slide. Geometry is read with shapely.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..evaluation.palette import GREEN, GREY, VERMILLION, class_color, rgb
from .batch import Request, RequestedTile
from .files import json_of, library, place_of, write_texts
from .sheet import (
    REVIEW,
    TILE_DONE,
    TILE_PENDING,
    TILE_REJECTED,
    Page,
    Sheet,
    batch_name,
    drop_reviews_if_unused,
)

README = f"""\
1. Make a QuPath project (0.4 or later) with the tiles in images/, or with the slides that they were cut from.
2. Automate > Script editor: open classes.groovy and run it once, for the class list.
3. Open an image and drop the file of its name from geojson/ on it.
4. Mark every nucleus, in a slide inside the frames only. When a tile is ready, give its frame the class
   "{TILE_DONE}", or "{TILE_REJECTED}" if it cannot be used.
5. File > Export objects as GeoJSON, all objects, "Export as FeatureCollection", under IMAGE_NAME.geojson, all into one
   folder. YOUR_FILE is one of them or the folder.
6. {{import_command}}
"""


def write(request: Request, folder: Path) -> None:
    """Write geojson/<image>.geojson for each tile or slide, and classes.groovy."""
    collections: dict[str, list[dict]] = {}
    colors = {name: class_color(index) for index, name in enumerate(request.offered)}
    for key, tile in request.tiles.items():
        features = collections.setdefault(tile.origin["parent"] if tile.origin else key, [])
        place = _placed(tile)
        frame = rectangle(_corners(tile, place), name=TILE_PENDING, color=GREY, kind="annotation")
        frame["properties"] |= {
            "name": key,
            "isLocked": True,
            "metadata": {"osal_batch": batch_name(request)},
        }
        features.append(frame)
        for name, box, score in tile.drafts:
            measured = {} if score is None else {"score": score}
            corners = _corners(tile, place, box)
            features.append(
                rectangle(corners, name=name, color=colors[name], kind="annotation", measurements=measured)
            )
    texts = {
        f"geojson/{place_of(name, 'or use COCO')}.geojson": json.dumps(
            {"type": "FeatureCollection", "features": features}, indent=1
        )
        + "\n"
        for name, features in collections.items()
    }
    entries = {**colors, TILE_PENDING: GREY, TILE_DONE: GREEN, TILE_REJECTED: VERMILLION}
    classes = "".join(
        f"    PathClass.fromString({json.dumps(name)}, makeRGB({', '.join(map(str, rgb(color)))})),\n"
        for name, color in entries.items()
    ).replace("$", "\\$")
    script = f"import qupath.lib.objects.classes.PathClass\n\ngetProject().setPathClasses([\n{classes}])\n"
    write_texts(folder, texts | {"classes.groovy": script})


def _placed(tile: RequestedTile) -> tuple[float, float, float]:
    """Corner of the tile in its slide, and pixels of the slide a pixel of the tile."""
    origin = tile.origin or {}
    return float(origin.get("x", 0)), float(origin.get("y", 0)), float(origin.get("downsample", 1))


def _corners(tile: RequestedTile, place: tuple[float, float, float], box=None) -> list[float]:
    """x0, y0, x1, y1 in the image of QuPath of the tile, or of a box (x, y, w, h) of it."""
    x0, y0, scale = place
    x, y, w, h = (0, 0, tile.width, tile.height) if box is None else box
    return [round(v, 4) for v in (x0 + x * scale, y0 + y * scale, x0 + (x + w) * scale, y0 + (y + h) * scale)]


def read(files: Mapping[str, bytes], request: Request, where: str) -> list[Sheet]:
    """One sheet. A file's tiles are those of its frames; without frames, that of its name, or all of the slide's."""
    shapely = library("shapely", "GeoJSON files")
    sheet = Sheet()
    found = {n: c for n, c in files.items() if n.lower().endswith((".geojson", ".json"))} or files
    for name, content in found.items():
        label = where if len(found) == 1 else f"{where}: {name}"
        image = name.removesuffix(".json").removesuffix(".geojson")
        objects, frames = _objects(json_of(content, label), name, shapely, sheet)
        if frames or objects is not None:
            _share_out(image, objects, frames, request, sheet, name)
    drop_reviews_if_unused(sheet.pages)
    return [sheet]


def _objects(content: object, file: str, shapely, sheet: Sheet):
    """[(place, class name, geometry)] and {key: (geometry, class name)} of the frames of a parsed file."""
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        sheet.problems.append(f"{file}: is no GeoJSON FeatureCollection; export it again")
        return None, {}
    objects, frames, other = [], {}, 0
    for number, feature in enumerate(features, start=1):
        place = f"{file}, object {number}"
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        if properties.get("objectType", "annotation") not in ("annotation", "detection", "cell"):
            other += 1
            continue
        try:
            geometry = shapely.geometry.shape(feature.get("nucleusGeometry") or feature["geometry"])
            if not shapely.get_coordinates(geometry).size or not _finite(geometry.bounds):
                raise ValueError("its outline is empty or not finite")
        except Exception as error:  # shapely raises many things for what is no geometry
            sheet.problems.append(
                f"{place}: is no outline ({type(error).__name__}: {str(error)[:80]}); delete it"
            )
            continue
        name = _class_name(properties.get("classification"))
        metadata = properties.get("metadata")
        if isinstance(metadata, dict) and sheet.batch is None:
            sheet.made_for(str(metadata.get("osal_batch")))
        if name in (TILE_PENDING, *REVIEW):
            key = str(properties.get("name"))
            if key in frames:
                sheet.problems.append(f"{place}: the frame of tile {key} is there twice; delete one")
            frames[key] = (geometry, name)
        elif name is None:
            sheet.problems.append(f"{place}: has no class; give it one")
        else:
            objects.append((place, name, geometry))
    if other:
        sheet.notes.append(f"{file}: {other} objects are no annotation, detection or cell and were left out")
    return objects, frames


def _finite(values) -> bool:
    return all(abs(value) < 1e12 for value in values)


def _class_name(classification: object) -> str | None:
    if isinstance(classification, dict):
        names = classification.get("names")
        if isinstance(names, list) and names:
            return ": ".join(map(str, names))
        return classification["name"] if isinstance(classification.get("name"), str) else None
    return None


def _share_out(image: str, objects: list, frames: dict, request: Request, sheet: Sheet, file: str) -> None:
    """Put the objects of a file on pages of their tiles, in pixels of the tile."""
    slide = [k for k, t in request.tiles.items() if t.origin and _ends_alike(t.origin["parent"], image)]
    if image in request.tiles or not (frames or slide):
        if others := [key for key in frames if key != image]:
            sheet.problems.append(f"{file}: has the frame of tile {others[0]}; name the file after its image")
        tile, (_, state) = request.tiles.get(image), frames.get(image, (None, None))
        boxes = [(place, name, _box(geometry, (0.0, 0.0, 1.0))) for place, name, geometry in objects]
        size = None if tile is None else (tile.width, tile.height)
        sheet.pages.append(Page(image, boxes, size, _review(state, frames)))
        return
    left = {place for place, *_ in objects}
    for key in frames or slide:
        tile, (frame, state) = request.tiles.get(key), frames.get(key, (None, None))
        if tile is None:  # of another batch
            sheet.pages.append(Page(key, review=_review(state, frames)))
            continue
        places = [_placed(tile)] + [(0.0, 0.0, 1.0)] * (len(frames) == 1)
        place = next((p for p in places if frame is None or _near(frame.bounds, _corners(tile, p))), None)
        if place is None:
            sheet.problems.append(
                f"{file}: the frame of tile {key} was moved, or its image has another size; put it back"
            )
            continue
        x0, y0, x1, y1 = _corners(tile, place)
        page = Page(key, [], (tile.width, tile.height), _review(state, frames))
        for label, name, geometry in objects:
            x, y = _center(geometry.bounds)
            if x0 <= x < x1 and y0 <= y < y1:
                page.boxes.append((label, name, _box(geometry, place)))
                left.discard(label)
        sheet.pages.append(page)
    if left:
        sheet.notes.append(f"{file}: {len(left)} objects lie in no tile of the batch and were left out")


def _review(state: str | None, frames: Mapping) -> str | None:
    return REVIEW.get(state, "pending") if frames else None


def _near(bounds, corners) -> bool:
    return all(abs(a - b) <= 1 for a, b in zip(bounds, corners))


def _center(bounds) -> tuple[float, float]:
    return (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2


def _box(geometry, place: tuple[float, float, float]) -> list[float]:
    """[x, y, w, h] in pixels of a tile that lies there."""
    (x, y, right, bottom), (x0, y0, scale) = map(float, geometry.bounds), place
    return [round(v / scale, 4) for v in (x - x0, y - y0, right - x, bottom - y)]


def _ends_alike(parent: str, image: str) -> bool:
    return parent == image or parent.endswith(f"/{image}") or image.endswith(f"/{parent}")


def rectangle(
    corners: Sequence[float],
    *,
    name: str,
    color: str,
    kind: str = "detection",
    measurements: Mapping[str, float] | None = None,
) -> dict:
    """A Feature for the rectangle x0, y0, x1, y1 of the class `name`, colour as "#RRGGBB".

    kind: "detection", which QuPath only shows, or "annotation", which it lets people edit.
    """
    x0, y0, x1, y1 = corners
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": kind,
            "classification": {"name": name, "color": list(rgb(color))},
            "measurements": {key: round(value, 6) for key, value in (measurements or {}).items()},
        },
    }
