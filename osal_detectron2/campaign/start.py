"""The beginning of a campaign: tiles, a test set kept apart, and the first tiles to label. Nothing is trained."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..core.annotation_cost import AnnotationCost
from ..core.errors import ConfigError, DataError, LedgerError, OutputError
from ..core.labels import LABELLED, REVIEWED_EMPTY, TileLabels
from ..core.lock import RunLock
from ..core.store import clean_temporary, read_json, sha256_bytes, sha256_file, write_json
from .cut import Tile, cut
from .folder import BEGUN, FIRST_RECORD, POOL, SETTINGS, TEST, TEST_RECORD, Campaign, Settings
from .grouping import slides_of
from .images import add_labels, find_parents
from .record import begin_record
from .spread import draw, hold_apart, spread

ASSUMED = AnnotationCost()  # until times are measured
_PER_NUCLEUS = 2.0  # nuclei stand this many of their sides apart in dense tissue
_FEWEST, _MOST = 4, 200  # tiles of a batch


def sitting(settings: Settings) -> int:
    """Tiles that fill a sitting, while nothing is known of the tissue: nuclei at twice their size from each other."""
    nuclei = (settings.tile / (_PER_NUCLEUS * settings.nucleus_size)) ** 2
    return tiles_in(settings.minutes, nuclei)


def tiles_in(minutes: float, nuclei: float) -> int:
    """Tiles of so many nuclei that somebody labels in `minutes`, each by hand; 4 to 200."""
    seconds = 60 * ASSUMED.minutes(tiles=1, nuclei=nuclei)
    return min(_MOST, max(_FEWEST, math.floor(minutes * 60 / seconds)))


def begin(
    folder: str | Path, settings: Settings, *, progress: Callable[[str], None] | None = None
) -> Campaign:
    """The campaign in `folder`, begun if it is not there yet; the same call again changes nothing.

    What a kill has left half done is finished by the same call, and by no other. Raises ConfigError for settings that
    cannot work, DataError for images and labels, LedgerError for a campaign with other settings, OutputError.
    """
    folder = Path(folder)
    check(settings)
    wanted = json.loads(json.dumps(asdict(settings)))
    if (folder / SETTINGS).is_file():
        campaign = Campaign.open(folder)
        _refuse_other(json.loads(json.dumps(asdict(campaign.settings))), wanted, folder)
        return campaign
    if (
        folder.is_dir()
        and any(p.name != ".lock" for p in folder.iterdir())
        and not (folder / BEGUN).is_file()
    ):
        raise OutputError(f"{folder}: exists and is not empty; choose a new folder for the campaign")
    parents, coco = find_parents(settings.images)  # before the folder is touched
    if settings.labelled:
        add_labels(parents, settings.labelled)
    groups, told = slides_of(parents, csv_file=settings.slides, rule=settings.slide_rule)
    if strange := sorted({b[0] for p in parents for b in p.boxes or ()} - set(settings.classes)):
        raise ConfigError(
            f"--labelled has class {strange[0]!r}, which --classes lacks; add it, or rename it there"
        )
    with RunLock(folder):
        if (folder / BEGUN).is_file():
            _refuse_other(read_json(folder / BEGUN), wanted, folder)
        clean_temporary(folder)
        for record in (FIRST_RECORD, TEST_RECORD):  # nobody can have answered them
            shutil.rmtree(folder / record, ignore_errors=True)
        write_json(folder / BEGUN, wanted)
        tiles, left_out = cut(
            parents,
            groups,
            folder / "tiles",
            tile=settings.tile,
            downsample=settings.downsample,
            progress=progress,
        )
        notes = [f"slides: {told}"]
        if coco is not None and coco["annotations"] and not settings.labelled:
            notes.append(f"the labels in {settings.images} were not used; to begin from them, add --labelled")
        campaign = _ask(folder, settings, tiles, left_out, notes)
        campaign.write()
        (folder / BEGUN).unlink()
    return campaign


def check(settings: Settings) -> None:
    """Raise ConfigError for settings that cannot work."""
    if missing := [name for name in settings.known if name not in settings.classes]:
        raise ConfigError(f"--known {missing[0]!r} is not among --classes {', '.join(settings.classes)}")
    if not settings.known or len(set(settings.classes)) < len(settings.classes):
        raise ConfigError("--classes needs each class once, and --known one or more of them")
    numbers = {
        "--minutes": settings.minutes,
        "--tile": settings.tile,
        "--nucleus-size": settings.nucleus_size,
        "--test-sittings": settings.test_sittings,
    }
    for option, value in numbers.items():
        if not math.isfinite(value) or value <= 0:
            raise ConfigError(f"{option} {value}: must be above 0")
    if settings.tile < 64 or not math.isfinite(settings.downsample) or settings.downsample < 1:
        raise ConfigError("--tile is 64 pixels or more, and --downsample 1 or more")
    if not 0 < settings.test_fraction < 1 or settings.batches < 1:
        raise ConfigError("--test-fraction is between 0 and 1, and --batches 1 or more")


def _refuse_other(there: dict, wanted: dict, folder: Path) -> None:
    if changed := [
        f"{key} {there.get(key)!r} -> {wanted[key]!r}" for key in wanted if there.get(key) != wanted[key]
    ]:
        raise LedgerError(
            f"{folder}: a campaign was begun here with other settings ({'; '.join(changed)}); choose a new folder"
        )


def _ask(
    folder: Path, settings: Settings, tiles: Sequence[Tile], left_out: dict, notes: list[str]
) -> Campaign:
    """Divide the tiles, write their lists, and put the two first questions."""
    labelled = [t for t in tiles if t.boxes is not None]
    free = [t for t in tiles if t.boxes is None and t.group not in {one.group for one in labelled}]
    size = max(_FEWEST, round(settings.test_sittings * sitting(settings)))
    if len(tiles) < 2 * _FEWEST:
        raise DataError(
            f"{settings.images}: {len(tiles)} usable tiles are too few; give more images, or --tile smaller"
        )
    fraction, seed = settings.test_fraction, settings.seed
    slides, apart = hold_apart([t.group for t in free], fraction=fraction, tiles=size, seed=seed)
    if apart:
        candidates = [t for t in free if t.group in slides]
    else:
        candidates = [t for t in tiles if t.boxes is None]
        size = min(size, max(1, round(fraction * len(candidates))))
        notes.append(
            "the test tiles come from slides that are trained on, for there are too few slides: what is measured on "
            "them will look better than on a new slide"
        )
    test = draw([t.key for t in candidates], size, seed=seed)
    away = {t.key for t in candidates} if apart else set(test)
    pool = [t for t in tiles if t.key not in away]
    unlabelled = [t for t in pool if t.boxes is None]
    lists = {POOL: [t for t in pool], TEST: [t for t in tiles if t.key in set(test)]}
    files = {}
    for name, members in lists.items():
        write_json(folder / name, _coco(members, settings))
        files[name] = sha256_file(folder / name)
    identity = sha256_bytes(json.dumps([asdict(settings), files], sort_keys=True).encode())[:16]
    common: dict[str, Any] = {
        "campaign": identity,
        "tiles": folder / "tiles",
        "known": settings.known,
        "classes": settings.classes,
        "seed": seed,
        "seconds_per_tile": ASSUMED.per_tile,
        "seconds_per_nucleus": ASSUMED.per_nucleus,
    }
    begin_record(
        folder / TEST_RECORD,
        coco_file=folder / TEST,
        images={t.key: _entry(t) for t in candidates},
        selected=test,
        reasons=dict.fromkeys(test, "test set: drawn at random"),
        **common,
    )
    if labelled:
        first, reasons = (
            [t.key for t in labelled],
            dict.fromkeys([t.key for t in labelled], "was labelled already"),
        )
        given = {t.key: _labels(t) for t in labelled}
        if not any(name in settings.known for tile in given.values() for name in tile.classes):
            raise ConfigError(f"--labelled {settings.labelled}: has no box of a known class")
    else:
        most = min(sitting(settings), len(unlabelled) - 1)
        rows, words = spread(
            np.stack([t.features for t in unlabelled]), [t.group for t in unlabelled], most, seed=seed
        )
        first, given = [unlabelled[row].key for row in rows], None
        reasons = dict(zip(first, words))
    begin_record(
        folder / FIRST_RECORD,
        coco_file=folder / POOL,
        images={t.key: _entry(t) for t in pool},
        selected=first,
        reasons=reasons,
        given=given,
        **common,
    )
    counts = {
        "pool": len({t.group for t in pool}),
        "test": len(slides) if apart else len({t.group for t in candidates}),
    }
    if apart and len(away) > len(test):
        notes.append(
            f"{len(away) - len(test)} more tiles of the test slides are neither trained on nor asked for"
        )
    return Campaign(folder, identity, settings, files, counts, apart, left_out, tuple(notes))


def _coco(tiles: Sequence[Tile], settings: Settings) -> dict:
    images = [{"id": number, **_entry(tile)} for number, tile in enumerate(tiles, 1)]
    names = dict.fromkeys([*settings.known, *settings.classes])
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"images": images, "annotations": [], "categories": categories}


def _entry(tile: Tile) -> dict:
    entry = {"file_name": tile.key, "width": tile.width, "height": tile.height, "group": tile.group}
    return entry | ({"origin": tile.origin} if tile.origin else {})


def _labels(tile: Tile) -> TileLabels:
    boxes = tile.boxes or []
    state = LABELLED if boxes else REVIEWED_EMPTY
    return TileLabels(state, [b for _, b in boxes], [name for name, _ in boxes], annotator="given")
