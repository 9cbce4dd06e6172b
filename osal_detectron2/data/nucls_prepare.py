"""Write a NuCLS release as COCO JSON: all tiles in all.json and two files a fold, all with all seven classes.

Which classes are known is decided when a data set is loaded, so one file serves the three settings.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

from ..core.errors import OutputError
from .nucls import CLASSES, read_release
from .nucls_splits import GROUPINGS, official_splits, split_tiles

SCHEMA = "osal-nucls-source/1"


def to_coco(tiles):
    """COCO dictionary of tiles, with ids counted from 1 in the order given and categories 1 to 7.

    `images[].group` is the slide, `images[].hospital` the hospital, `images[].region` the place on the slide
    in level-0 pixels; `annotations[].raw_class` is the release's own name of the class.
    """
    images, annotations = [], []
    category = {name: i for i, name in enumerate(CLASSES, start=1)}
    for image_id, tile in enumerate(tiles, start=1):
        images.append(
            {
                "id": image_id,
                "file_name": tile.file_name,
                "width": tile.width,
                "height": tile.height,
                "group": tile.slide,
                "hospital": tile.hospital,
                "region": tile.region,
            }
        )
        for nucleus in tile.nuclei:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category[nucleus.class_name],
                    "bbox": list(nucleus.bbox),
                    "area": nucleus.bbox[2] * nucleus.bbox[3],
                    "iscrowd": int(nucleus.ignore),
                    "raw_class": nucleus.raw_class,
                }
            )
    categories = [{"id": i, "name": name} for name, i in category.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def subset(coco, tiles):
    """The part of a COCO dictionary that belongs to some tiles; ids stay, so all files of one set agree."""
    names = {tile.file_name for tile in tiles}
    images = [image for image in coco["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [annotation for annotation in coco["annotations"] if annotation["image_id"] in ids]
    return {"images": images, "annotations": annotations, "categories": coco["categories"]}


def prepare(release, out=None, classes_from="main", ambiguous="drop", seed=0):
    """Read a release and write OUT/annotations/{all, SCHEME_foldK_train, SCHEME_foldK_test, source}.json.

    Everything is read and checked before anything is written, and a reader of the folder never sees half a
    file. Images are not copied: source.json records where they are.

    Args:
        release: folder with rgb/, csv/ and, for the official folds, train_test_splits/.
        out: folder that annotations/ goes to; the release itself where not given.
        classes_from, ambiguous: see `read_release`.
        seed: of the random, slide and hospital folds.

    Returns:
        the reader's Report, with a note for every fold scheme that could not be made.

    Raises:
        DataError: a file of the release cannot be used.
        OutputError: the output cannot be written.
    """
    release = Path(release)
    out = Path(out) if out is not None else release
    tiles, report = read_release(release, classes_from=classes_from, ambiguous=ambiguous)
    files = {}
    for scheme in GROUPINGS:
        try:
            folds = split_tiles(tiles, scheme, seed=seed)
        except ValueError as err:
            report.notes.append(f"no folds by {scheme}: {err}")
            continue
        files |= _named(scheme, folds)
    official = official_splits(tiles, release)
    if not official:
        report.notes.append("no official folds: the release has no train_test_splits/")
    for k, (train, test) in official.items():
        if k != 999 and len(train) + len(test) < len(tiles):
            left_out = len(tiles) - len(train) - len(test)
            report.notes.append(f"official fold {k} names neither part for {left_out} tiles")
    files |= _named("official", official)
    same = release.resolve() == out.resolve()
    source = {
        "schema": SCHEMA,
        "image_root": "rgb" if same else str((release / "rgb").resolve()),
        "classes_from": classes_from,
        "ambiguous": ambiguous,
        "seed": seed,
        "tiles": report.tiles,
        "nuclei": dict(report.per_class),
    }
    coco = to_coco(tiles)
    documents = {"all": coco} | {name: subset(coco, part) for name, part in files.items()}
    _write_all(documents | {"source": source}, out / "annotations")
    return report


def _named(scheme, folds):
    return {
        f"{scheme}_fold{k}_{part}": tiles
        for k, pair in folds.items()
        for part, tiles in zip(("train", "test"), pair)
    }


def _write_all(documents, folder):
    """Write every document aside and move all of them at the end, so a full disk changes nothing."""
    stage = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
        for name, document in documents.items():
            with open(stage / f"{name}.json", "w", encoding="utf-8") as stream:
                stream.write(json.dumps(document, separators=(",", ":")))
                stream.flush()
                os.fsync(stream.fileno())
        for name in documents:
            os.replace(stage / f"{name}.json", folder / f"{name}.json")
    except OSError as err:
        raise OutputError(
            f"{folder}: cannot write ({err.strerror or err}); free space or choose another --out"
        ) from None
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
