"""Label Studio's own JSON: tasks with predictions out, annotations of several people back, with the seconds they took.

Without label-studio-sdk: it needs another OpenCV than Detectron2 (opencv-python-headless below 4.13) and 40 more
packages, to read what is plain JSON. Boxes are in percent of the image.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from ..core.errors import DataError
from ..evaluation.palette import class_color
from .batch import Request
from .files import json_of, number, place_of, write_texts
from .sheet import Page, Sheet, around

NOT_USABLE = "not usable"
_WORDS = {"rectanglelabels", "polygonlabels", "ellipselabels"}

README = """\
1. Start Label Studio so that it may read the tiles, on the computer where they are:
       LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT="{parent}" label-studio
2. Create Project, name it {name}; Labeling Setup > Custom template > Code: paste labels.xml. Save.
3. Settings > Cloud Storage > Add Source Storage > Local files, absolute path {folder}/images; no sync is needed.
4. Import tasks.json. Settings > Annotation: use predictions to prelabel tasks.
5. Label All Tasks. Submit says that every nucleus is marked, with no box that there is none; "not usable" and Submit
   that the tile cannot be used; Skip leaves it to others. Never "Create Annotations From Predictions".
6. Export > JSON (not JSON-MIN).
7. {import_plain}
   Everybody's answers are told apart; --map-annotator "user 1=anna" gives the names.
"""


def write(request: Request, folder: Path) -> None:
    """Write tasks.json and labels.xml, the labelling configuration."""
    tasks = []
    for rank, key in enumerate(request.tiles, start=1):
        place = quote(f"{folder.name}/images/{place_of(key, 'or use COCO')}")
        tasks.append(task(request, key, rank=rank, image=f"/data/local-files/?d={place}"))
    texts = {"tasks.json": json.dumps(tasks, indent=1, ensure_ascii=True) + "\n"}
    write_texts(folder, texts | {"labels.xml": labeling_config(request.offered)})


def task(request: Request, key: str, *, rank: int, image: str) -> dict:
    """The task of a tile with its drafts as a prediction; `image`: where the server finds the tile."""
    tile = request.tiles[key]
    data = {
        "image": image,
        "osal_key": key,
        "osal_batch": request.batch,
        "osal_round": request.round_index,
        "rank": rank,
        "reason": tile.reason,
        **{f"score_{name}": value for name, value in tile.ranking.items()},
    }
    drafts = [_region(f"draft{i}", tile, *draft) for i, draft in enumerate(tile.drafts)]
    shown = [{"model_version": f"osal {request.round_index}", "result": drafts}] if drafts else []
    return {"data": data, "predictions": shown}


def labeling_config(classes: Sequence[str]) -> str:
    """The XML that tells Label Studio what there is to mark."""
    labels = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(class_color(i))}/>\n"
        for i, name in enumerate(classes)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="nucleus" toName="image" canRotate="false">\n{labels}  </RectangleLabels>\n'
        '  <Choices name="tile" toName="image" choice="multiple">\n'
        f'    <Choice value="{NOT_USABLE}"/>\n  </Choices>\n</View>\n'
    )


def _region(identity: str, tile, name: str, box, score: float | None) -> dict:
    x, y, w, h = box
    value = {
        "x": 100 * x / tile.width,
        "y": 100 * y / tile.height,
        "width": 100 * w / tile.width,
        "height": 100 * h / tile.height,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    region = {
        "id": identity,
        "type": "rectanglelabels",
        "from_name": "nucleus",
        "to_name": "image",
        "original_width": tile.width,
        "original_height": tile.height,
        "image_rotation": 0,
        "value": value,
    }
    return region | ({} if score is None else {"score": score})


def read(files: Mapping[str, bytes], request: Request, where: str) -> list[Sheet]:
    """A sheet for each annotator. Of several annotations by one of them for a tile the last counts.

    A task that was skipped has the review "skipped". An annotation that was made of a prediction without being opened
    (it has no lead_time) is pending.
    """
    if len(files) != 1:
        raise DataError(f"{where}: holds {len(files)} files; import Label Studio's JSON itself")
    tasks = json_of(next(iter(files.values())), where)
    if not isinstance(tasks, list) or not all(
        isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks
    ):
        raise DataError(
            f"{where}: is not Label Studio's JSON (a list of tasks with data); export JSON, not JSON-MIN"
        )
    sheets: dict[str | None, Sheet] = {}
    common = Sheet()  # what concerns no annotator
    for position, task in enumerate(tasks, start=1):
        name, batch = _name(task["data"]), task["data"].get("osal_batch")
        label = f"task {task.get('id', position)}"
        if name in request.tiles and batch not in (None, request.batch):
            common.batch, common.round_index = batch, task["data"].get("osal_round")
        annotations = task.get("annotations", [])
        if (
            name is None
            or not isinstance(annotations, list)
            or not all(isinstance(a, dict) for a in annotations)
        ):
            common.problems.append(
                f"{label}: needs data.osal_key or data.image, and a list of annotations; export again"
            )
            continue
        if not annotations:
            common.untouched.append(name)
        latest = {}
        for annotation in sorted(
            annotations, key=lambda a: str(a.get("updated_at") or a.get("created_at") or "")
        ):
            latest[_annotator(annotation.get("completed_by"))] = annotation
        for annotator, annotation in latest.items():
            sheet = sheets.setdefault(annotator, Sheet(annotator=annotator))
            sheet.pages.append(_page(name, annotation, label, request.tiles.get(name), sheet))
    first = next(iter(sheets.values()), common)
    if first is not common:
        first.untouched, first.batch, first.round_index = common.untouched, common.batch, common.round_index
        first.problems, first.notes = common.problems + first.problems, common.notes + first.notes
    return list(sheets.values()) or [common]


def _name(data: Mapping) -> str | None:
    """Our key; without it the path in the image's URL."""
    if isinstance(data.get("osal_key"), str):
        return data["osal_key"]
    url = data.get("image")
    return unquote(url.rpartition("?d=")[2]) if isinstance(url, str) else None


def _annotator(completed_by: object) -> str | None:
    """Her e-mail address or name, or "user 3" where the file has only a number."""
    if isinstance(completed_by, dict):
        for word in ("email", "username"):
            if isinstance(completed_by.get(word), str) and completed_by[word].strip():
                return completed_by[word]
        completed_by = completed_by.get("id")
    return (
        f"user {completed_by}"
        if isinstance(completed_by, int) and not isinstance(completed_by, bool)
        else None
    )


def _page(name: str, annotation: Mapping, label: str, tile, sheet: Sheet) -> Page:
    page = Page(name, review="done")
    try:
        page.seconds = number(annotation["lead_time"], "lead_time") if annotation.get("lead_time") else None
    except ValueError:
        sheet.notes.append(f"{label}: its lead_time is no number of seconds and was left out")
    if page.seconds is not None and page.seconds < 0:
        page.seconds = None
    if annotation.get("was_cancelled"):
        page.review = "skipped"
        return page
    regions = annotation.get("result")
    if not isinstance(regions, list) or not all(isinstance(r, dict) for r in regions):
        sheet.problems.append(f"{label}: an annotation has no list of results; export again")
        return page
    if annotation.get("parent_prediction") is not None and annotation.get("lead_time") is None:
        page.review = "pending"
        sheet.notes.append(f"{label}: made from a prediction that nobody opened; it stays pending")
    for region in regions:
        place = f"{label}, region {region.get('id')}"
        try:
            if region.get("type") == "choices":
                if NOT_USABLE in region["value"]["choices"]:
                    page.review = "rejected"
            elif region.get("type") in _WORDS:
                page.boxes.append((place, *_box(region, page, tile)))
            else:
                raise ValueError(f"is of type {region.get('type')!r}; draw rectangles, polygons or ellipses")
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            sheet.problems.append(f"{place}: is incomplete ({type(error).__name__}: {error}); export again")
        except ValueError as error:
            sheet.problems.append(f"{place}: {error}")
    if page.review == "rejected":
        page.boxes = []
    return page


def _box(region: Mapping, page: Page, tile) -> tuple[str, list[float]]:
    """(class name, [x, y, w, h] in pixels) of a region in percent; notes the size of the image in `page`."""
    value, names = region["value"], region["value"][region["type"]]
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise ValueError(
            f"has {len(names) if isinstance(names, list) else 'no'} classes; give it exactly one"
        )
    size = [
        number(region.get(f"original_{s}", getattr(tile, s, None)), f"original_{s}")
        for s in ("width", "height")
    ]
    if page.size not in (None, tuple(size)):
        raise ValueError("its image has another size than that of the tile's other regions; export again")
    page.size = tuple(size)
    if any(
        number(turn or 0, "rotation") % 360 for turn in (value.get("rotation"), region.get("image_rotation"))
    ):
        raise ValueError("is rotated; draw it upright, in an image that is not turned")
    if region["type"] == "polygonlabels":
        box = around([[number(v, "a coordinate") for v in point[:2]] for point in value["points"]])
    elif region["type"] == "ellipselabels":
        x, y, rx, ry = (number(value[word], word) for word in ("x", "y", "radiusX", "radiusY"))
        box = [x - rx, y - ry, 2 * rx, 2 * ry]
    else:
        box = [number(value[word], word) for word in ("x", "y", "width", "height")]
    # Percent of 10 pixels and back are 10.000000000000002.
    return names[0], [round(v * size[i % 2] / 100, 6) for i, v in enumerate(box)]
