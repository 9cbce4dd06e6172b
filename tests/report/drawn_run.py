"""A run of people on drawn tiles, by the real ledger: names that would be markup, two annotators, an open batch."""

import json

import numpy as np
from PIL import Image

from osal_detectron2.core.labels import LABELLED, REJECTED, REVIEWED_EMPTY, LabelFile, TileLabels
from osal_detectron2.core.ledger import INIT, Ledger
from osal_detectron2.core.round_files import write_detections, write_metrics, write_scores, write_selection
from osal_detectron2.core.store import write_bytes
from osal_detectron2.exchange.batch import Request, RequestedTile
from osal_detectron2.oracles.answers import Answer, Answers, Choice

HOSTILE = '<script>alert("x")</script>'
KNOWN = [HOSTILE, "lymphocyte"]
OTHER = "plasma & <b>co</b>"
ANNA, BEN = "anna@lab.example", "ben <img src=x onerror=alert(1)>"
SIDE = 64
POOL = ["a'><script>1</script>.png", *(f"slide{i % 3}/tile{i:02d}.png" for i in range(39))]
FIRST, QUERY, WAITING = POOL[:4], POOL[4:24], POOL[24:26]


def write_tiles(folder, keys=POOL):
    """An image of 64 x 64 pixels for each tile, no two alike."""
    for number, key in enumerate(keys):
        random = np.random.default_rng(number)
        pixels = np.full((SIDE, SIDE, 3), (225 - 2 * number, 170, 200)) + random.normal(0, 6, (SIDE, SIDE, 1))
        for x, y in random.integers(4, SIDE - 14, (3 + number % 4, 2)):
            pixels[y : y + 9, x : x + 9] = (90, 40, 120)
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def labels_of(number, *, annotator=ANNA, move=0.0, names=(HOSTILE, "lymphocyte", OTHER)):
    boxes = [[5.0 + 15 * i + move, 10.0, 10.0, 10.0] for i in range(3)]
    return TileLabels(LABELLED, boxes, names, annotator)


def make_run(folder, *, images=None, test_set=True):
    """first tiles; a query of 20 tiles with detections, two annotators of three of them; an open batch of two."""
    ledger = Ledger.create(
        folder,
        strategy="osal_nd",
        seed=3,
        known_classes=KNOWN,
        pool=POOL,
        plan=[4, 24, 26],
        config={"OSAL.PROTOTYPE.MARGIN": 10.0},
        dataset_sha256="0" * 64,
        versions={"osal_detectron2": "0.1.0"},
    )
    if images is not None:
        data = {"OSAL": {"DATA": {"TRAIN_IMAGE_ROOT": str(images), "TRAIN_JSON": ""}}}
        write_bytes(folder / "run.yaml", json.dumps(data).encode())
    _select(ledger, INIT, FIRST)
    ledger.commit(INIT, selected=FIRST, labels={key: labels_of(i) for i, key in enumerate(FIRST)})
    for round_index, (keys, score) in enumerate(((QUERY, 31.5), (WAITING, 44.25))):
        path = ledger.round_dir(round_index)
        bbox = {"mAP50": score, "AP": score / 2, f"AP50-{HOSTILE}": score + 5, "AP50-lymphocyte": score - 5}
        open_set = {"A-OSE": 7 - round_index, "unknown_total": 20, "unknown_detected_fraction": 0.3}
        counts = {"known_nuclei": 30 if test_set else 0, "unknown_nuclei": 20}
        write_metrics(path, {"bbox": bbox, "open_set": open_set, "counts": counts, "flags": []})
        pool = ledger.pool_keys()
        write_scores(path, {"score": {k: 0.25 for k in pool}}, pool=pool, selected=keys)
        found = {
            key: {
                "boxes": [[6.0, 10.0, 10.0, 10.0], [40.0, 44.0, 12.0, 12.0]],
                "classes": [HOSTILE, "lymphocyte"],
                "scores": [0.91, 0.31 + i / 100],
                "looks_unknown": [True, None],
            }
            for i, key in enumerate(keys[:12])
        }
        write_detections(path, found, score_thresh=0.3)
        _select(ledger, round_index, keys)
        if round_index == 0:
            _answer(path, keys)
            labels = LabelFile.read(path / "labels.json")
            ledger.commit(0, selected=keys, labels=labels.tiles, classes=labels.classes)
    return folder


def _select(ledger, round_index, keys):
    write_selection(
        ledger.round_dir(round_index),
        round_index=round_index,
        strategy="initial" if round_index == INIT else "osal_nd",
        budget=len(keys),
        selected=keys,
        candidates=len(keys),
        reasons={key: f"rank {i} of <{len(keys)}>" for i, key in enumerate(keys, 1)},
    )


def _answer(path, keys):
    """Anna answers all, with a time; Ben three, of which he sees one otherwise; one is empty, one rejected."""
    tiles = {key: RequestedTile(SIDE, SIDE, ()) for key in keys}
    request = Request("b1", 0, (*KNOWN, OTHER), tiles, 15.0, 3.0)
    request.write(path / "query")
    events = [Answer(key, labels_of(i), "f.json", 30.0 + i) for i, key in enumerate(keys[:-2])]
    events += [
        Answer(keys[-2], TileLabels(REVIEWED_EMPTY, annotator=ANNA), "f.json", 9.0),
        Answer(keys[-1], TileLabels(REJECTED, annotator=ANNA), "f.json", 5.0),
    ]
    for i, key in enumerate(keys[:3]):
        names = (HOSTILE, "lymphocyte", OTHER) if i else (HOSTILE, OTHER, OTHER)
        events.append(Answer(key, labels_of(i, annotator=BEN, move=1.0, names=names), "g.json", 40.0))
    events.append(Choice(keys[0], ANNA))
    Answers(tuple(events)).write(path / "query", request)
