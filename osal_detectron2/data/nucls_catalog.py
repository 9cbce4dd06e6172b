"""NuCLS in Detectron2's catalog, as nucls_{setting}_{scheme}_fold{1..5}_{train,test}.

Settings are 5_2, 4_3 and 3_4; schemes are random, slide, hospital and official. Nothing is read until
a data set is asked for. Files are looked for under $DETECTRON2_DATASETS/nucls (default datasets/nucls), as
Detectron2's own data sets are.
"""

import json
import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..core.errors import DataError
from .coco import load_open_set_coco
from .nucls import CLASSES, SETTINGS
from .nucls_splits import FOLDS, SCHEMES


def nucls_names():
    """Every name, as {name: (setting, scheme, fold, part)}."""
    return {
        f"nucls_{setting}_{scheme}_fold{k}_{part}": (setting, scheme, k, part)
        for setting in SETTINGS
        for scheme in SCHEMES
        for k in FOLDS
        for part in ("train", "test")
    }


def register_all_nucls(root=None):
    """Register the 120 NuCLS data sets; a second call, with another root too, replaces the first.

    Args:
        root: folder that holds annotations/ (and usually rgb/); default $DETECTRON2_DATASETS/nucls.
    """
    if root is None:
        root = os.path.join(os.environ.get("DETECTRON2_DATASETS", "datasets"), "nucls")
    root = Path(root)
    try:
        image_root = _image_root(root)
    except DataError:  # import must not fail; loading a data set reports it
        image_root = root / "rgb"
    for name, (setting, scheme, k, part) in nucls_names().items():
        json_file, known = root / "annotations" / f"{scheme}_fold{k}_{part}.json", SETTINGS[setting]
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda args=(name, root, json_file, known): _load(*args))
        MetadataCatalog.get(name).set(
            thing_classes=list(known),
            known_classes=list(known),
            unknown_classes=[c for c in CLASSES if c not in known],
            evaluator_type="open_set_coco",
            json_file=str(json_file),
            image_root=str(image_root),
        )


def _load(name, root, json_file, known):
    if not json_file.exists():
        raise DataError(
            f"{json_file}: not there, so {name} cannot be loaded; run `osal data nucls "
            f"--release {root}` on the downloaded release, or set DETECTRON2_DATASETS"
        )
    return load_open_set_coco(str(json_file), str(_image_root(root)), list(known), name=name)


def _image_root(root):
    """Folder of the images: what preparation recorded, or rgb/ beside annotations/ before it has run."""
    source = root / "annotations" / "source.json"
    try:
        return root / json.loads(source.read_text(encoding="utf-8"))["image_root"]
    except FileNotFoundError:
        return root / "rgb"
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{source}: cannot be read; run osal data nucls again") from None
