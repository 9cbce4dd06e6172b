"""What in a data set would break a run or mislead its reader. Numpy, Pillow and the standard library.

Each check is a small function from plain data to `Finding`s; `check_dataset` runs them all. Faults
of the JSON itself come from `coco_file.coco_findings`, those against a config from `detector_fit`.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from osal_detectron2.data.coco_file import (
    ERROR,
    INFO,
    MIN_SIDE,
    WARNING,
    Finding,
    clip_box,
    coco_findings,
    known_class_findings,
    parse_coco,
)
from osal_detectron2.data.detector_fit import DetectorSettings, anchor_findings, detection_limit_findings
from osal_detectron2.data.duplicates import (
    difference_hash,
    overlap_findings,
    repeated_image_findings,
    shared_content_findings,
    shared_look_findings,
    similar_findings,
)

RARE_UNKNOWN = 0.05  # below this share of the boxes, counting known nuclei is nearly counting all nuclei


@dataclass(frozen=True)
class ImageFacts:
    """What one decoded image file is: (width, height), hashes of pixels and look, or why it cannot be read."""

    size: tuple[int, int] | None = None
    digest: str = ""
    looks: bytes = b""
    blank: bool = False
    problem: str = ""


def check_dataset(
    json_file: str,
    image_root: str,
    known_classes: Sequence[str],
    *,
    other_json: str | None = None,
    other_root: str | None = None,
    settings: DetectorSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """All findings for the training set `json_file` and, where given, the test set `other_json` beside it.

    Raises DataError only where a JSON cannot be parsed at all. Checks that need sound boxes are left out
    (INFO "stopped") while the JSON has errors.
    """
    settings = settings or DetectorSettings()
    sets = [(json_file, image_root)]
    if other_json:
        sets.append((other_json, other_root or image_root))
    findings, facts, sound = [], [], []
    for path, root in sets:
        data = parse_coco(path)
        faults = coco_findings(data, path)
        findings += faults
        if any(fault.check != "box-outside" for fault in faults):
            message = f"{path}: further checks wait"
            findings.append(Finding(INFO, "stopped", message, "mend the errors of the JSON first"))
            continue
        sound.append(data)
        facts.append(scan_images(data, root, progress))
        findings += image_file_findings(data, facts[-1], root)
        findings += repeated_image_findings(facts[-1], path)
        findings += similar_findings(facts[-1], path)
        findings += overlap_findings(data, path)
        findings += clipped_box_findings(data, path)
        findings += repeated_box_findings(data, path)
        findings += unit_box_findings(data, path)
        findings += annotation_zero_findings(data, path)
        findings += empty_tile_findings(data, path)
        findings += detection_limit_findings(data, path, settings.detection_limit)
        findings += anchor_findings(data, path, settings)
        names = [category["name"] for category in data["categories"]]
        faults = list(known_class_findings(known_classes, names, path))
        describe = class_findings if data["annotations"] else unlabelled_findings
        findings += faults or describe(data, known_classes, path, trains=path == json_file)
    if len(sound) == 2:
        findings += leakage_findings(*sound, sets)
        findings += shared_content_findings(*facts, sets)
        findings += shared_look_findings(*facts, sets)
    return findings


def scan_images(
    data: dict, image_root: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, ImageFacts]:
    """Decode every image once: {file_name: facts}."""
    facts = {}
    for done, image in enumerate(data["images"], start=1):
        facts[image["file_name"]] = _image_facts(os.path.join(image_root, image["file_name"]))
        if progress:
            progress(done, len(data["images"]))
    return facts


def _image_facts(path: str) -> ImageFacts:
    try:
        with Image.open(path) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGB")
            pixels, looks = np.asarray(picture), difference_hash(picture)
    except FileNotFoundError:
        return ImageFacts(problem="missing")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return ImageFacts(problem=str(error) or "damaged")
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    blank = bool((pixels == pixels[0, 0]).all())
    return ImageFacts(size=(pixels.shape[1], pixels.shape[0]), digest=digest, looks=looks, blank=blank)


def image_file_findings(data: dict, facts: dict[str, ImageFacts], image_root: str) -> Iterator[Finding]:
    """Images that are missing, cannot be decoded, or are not of the size that the JSON says."""
    for image in data["images"]:
        fact, path = facts[image["file_name"]], os.path.join(image_root, image["file_name"])
        said = int(image["width"]), int(image["height"])
        if fact.problem == "missing":
            yield Finding(ERROR, "image-missing", f"{path}: no such image", "check the image root")
        elif fact.problem:
            message = f"{path}: cannot be decoded ({fact.problem})"
            yield Finding(ERROR, "image-damaged", message, "copy the image again")
        elif fact.size != said:
            message = f"{path}: is {fact.size[0]}x{fact.size[1]}, the JSON says {said[0]}x{said[1]}"
            remedy = "boxes are misplaced: correct the JSON or the image"
            yield Finding(ERROR, "image-size", message, remedy)


def leakage_findings(data: dict, other: dict, sets: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Groups (parent tile, slide, patient) or image files that are in both sets."""
    files, groups = [], []
    for part, (_, root) in zip((data, other), sets):
        files.append({os.path.realpath(os.path.join(root, image["file_name"])) for image in part["images"]})
        groups.append(
            {str(image["group"]) for image in part["images"] if image.get("group") not in (None, "")}
        )
    for kind, (here, there) in (("image", files), ("group", groups)):
        if shared := sorted(here & there):
            message = f"{len(shared)} {kind}s are in both {sets[0][0]} and {sets[1][0]}, first {shared[0]}"
            remedy = f"keep each {kind} on one side: test figures would be too good"
            yield Finding(ERROR, f"leak-{kind}", message, remedy)
    for (path, _), found in zip(sets, groups):
        if not found:
            message = f"{path}: no image has a group, so leakage between tiles of a slide cannot be seen"
            yield Finding(INFO, "group-absent", message, "fill images[].group with the slide")


def clipped_box_findings(data: dict, json_file: str) -> Iterator[Finding]:
    """Boxes that reach past their image, but not wholly: loading clips them."""
    images = {image["id"]: image for image in data["images"]}
    cut = []
    for entry in data["annotations"]:
        image, box = images[entry["image_id"]], [float(value) for value in entry["bbox"]]
        clipped = clip_box(box, image["width"], image["height"])
        if clipped != box and min(clipped[2:]) >= MIN_SIDE:
            cut.append(entry["id"])
    if not cut:
        return
    message = (
        f"{json_file}: {len(cut)} of {len(data['annotations'])} boxes reach past their image, first {cut[0]}"
    )
    remedy = "loading clips them; if they are many, are they two corners instead of x, y, width, height?"
    yield Finding(WARNING, "box-past-border", message, remedy)


def repeated_box_findings(data: dict, json_file: str) -> Iterator[Finding]:
    """The same box twice in an image, of whatever class."""
    first, repeated = {}, []
    for entry in data["annotations"]:
        if first.setdefault((entry["image_id"], tuple(entry["bbox"])), entry["id"]) != entry["id"]:
            repeated.append(entry["id"])
    if not repeated:
        return
    message = f"{json_file}: {len(repeated)} boxes stand twice in their image, first annotation {repeated[0]}"
    yield Finding(WARNING, "box-repeated", message, "remove one of the two")


def unit_box_findings(data: dict, json_file: str) -> Iterator[Finding]:
    """Coordinates between 0 and 1 throughout: fractions of the image where pixels are meant."""
    boxes = [entry["bbox"] for entry in data["annotations"]]
    if not boxes or np.max(boxes) > 1:
        return
    message = f"{json_file}: no box coordinate is above 1"
    yield Finding(ERROR, "box-unit", message, "multiply by width and height: COCO boxes are in pixels")


def annotation_zero_findings(data: dict, json_file: str) -> Iterator[Finding]:
    """Annotation id 0, which pycocotools' COCOeval takes for "not matched"."""
    if all(entry["id"] != 0 for entry in data["annotations"]):
        return
    message = f"{json_file}: an annotation has id 0"
    remedy = "number from 1: COCOeval counts a match with id 0 as a miss"
    yield Finding(WARNING, "annotation-zero", message, remedy)


def unlabelled_findings(
    data: dict, known_classes: Sequence[str], json_file: str, trains: bool
) -> Iterator[Finding]:
    """What a set without any box is good for."""
    message = f"{json_file}: no box at all"
    remedy = "such a run starts where people label (OSAL.ORACLE.NAME human); or give the labelled JSON"
    if not trains:
        remedy = "nothing can be measured on it: the run says '-' for every figure of the detector"
    yield Finding(WARNING, "unlabelled", message, remedy)


def class_findings(
    data: dict, known_classes: Sequence[str], json_file: str, trains: bool
) -> Iterator[Finding]:
    """The table of classes (INFO), classes that are absent, and a set with few or no unknown nuclei."""
    names = {category["id"]: category["name"] for category in data["categories"]}
    boxes = Counter(names[entry["category_id"]] for entry in data["annotations"])
    images = Counter(
        name for name, _ in {(names[e["category_id"]], e["image_id"]) for e in data["annotations"]}
    )
    unknown = [name for name in names.values() if name not in known_classes]
    for kind, group in (("known", list(known_classes)), ("unknown", unknown)):
        for name in group:
            message = f"{json_file}: {kind} class {name}: {boxes[name]} boxes in {images[name]} images"
            if boxes[name]:
                yield Finding(INFO, "class-count", message, "")
            elif kind == "known":
                remedy = "it cannot be learnt" if trains else "its AP is undefined"
                level = ERROR if trains else WARNING
                yield Finding(level, "known-absent", message, f"{remedy}: add images or leave it out")
            else:
                remedy = "remove the category, or is its name a typing error?"
                yield Finding(WARNING, "unknown-class-absent", message, remedy)
    total, strangers = sum(boxes.values()), sum(boxes[name] for name in unknown)
    if not strangers:
        message, remedy = f"{json_file}: no unknown nucleus", "open-set strategies have nothing to avoid here"
        yield Finding(WARNING, "unknown-absent", message, remedy)
    elif strangers < RARE_UNKNOWN * total:
        message = f"{json_file}: only {100 * strangers / total:.1f} % of the boxes are unknown nuclei"
        remedy = "a purity score is then close to the densest tiles: run the strategy count_all beside it"
        yield Finding(WARNING, "unknown-rare", message, remedy)


def empty_tile_findings(data: dict, json_file: str) -> Iterator[Finding]:
    """How many images have no box."""
    empty = len(
        {image["id"] for image in data["images"]} - {entry["image_id"] for entry in data["annotations"]}
    )
    if not empty or not data["annotations"]:
        return
    message = f"{json_file}: {empty} of {len(data['images'])} images have no box"
    yield Finding(INFO, "tile-empty", message, "they stay in the pool as tiles without nuclei")
