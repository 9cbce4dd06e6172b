"""What people get to see of a query, and how a run waits for them: by ending."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.layers import nms
from detectron2.utils import comm

from ..core.ledger import Ledger
from ..dist import on_main
from ..oracles.batch import UNKNOWN
from ..oracles.cost import expected_nuclei, mean_nuclei
from ..oracles.export import batch_stands, export_batch
from ..scoring.pool import PoolScorer, detector_of
from ..strategies import Detections

ONE_NUCLEUS_IOU = 0.5


class AwaitingLabels(SystemExit):
    """The run stops here, with exit code 0, until people have labelled a batch (docs/human_oracle.md).

    The message has been printed by then, so no trainer or script can end in silence; `str` of it is the message, too.
    A SystemExit, so that none needs to know of it, and Detectron2's loop logs no traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(0)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self):
        return type(self), (self.message,)


def unknown_class(known_classes: Sequence[str], class_names: Sequence[str]) -> str:
    """The class of a nucleus of which nothing is known but that it is of no known class.

    That of the data if it has exactly one besides the known ones, otherwise "unknown": people may answer that, for the
    detectors learn from known against unknown and not from the names of unknown classes.
    """
    others = [name for name in class_names if name not in known_classes]
    return others[0] if len(others) == 1 else UNKNOWN


def pre_annotations(
    scorer: PoolScorer,
    keys: Sequence[str],
    *,
    known_classes: Sequence[str],
    unknown_class: str,
    score_thresh: float,
) -> dict[str, dict]:
    """Drafts: key -> boxes [x, y, w, h] in tile pixels, classes, scores. Collective.

    Known nuclei are the target's detections, unknown ones those that the auxiliary, where there is one, calls unknown;
    from `score_thresh` on. One box a nucleus: of two that overlap by IoU .5 the target's stays, then the better one.
    """
    tables = {"target": scorer.run(Detections(over=tuple(keys)))}
    names = {"target": dict(enumerate(known_classes))}
    if hasattr(getattr(scorer.model, "module", scorer.model), "auxiliary"):
        tables["auxiliary"] = scorer.run(Detections(over=tuple(keys), detector="auxiliary"))
        last = detector_of(scorer.model, "auxiliary").roi_heads.num_classes - 1
        names["auxiliary"] = {last: unknown_class}
    result = {}
    for key in keys:
        rows = [
            (box, names[detector][int(c)], float(score), detector == "target")
            for detector, table in tables.items()
            for box, c, score in zip(table[key]["boxes"], table[key]["classes"], table[key]["scores"])
            if int(c) in names[detector] and score >= score_thresh
        ]
        boxes = np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4)
        order = torch.tensor([score + of_target for _, _, score, of_target in rows], dtype=torch.float64)
        kept = nms(torch.from_numpy(boxes), order, ONE_NUCLEUS_IOU).tolist()
        boxes[:, 2:] -= boxes[:, :2]
        result[key] = {
            "boxes": boxes[kept].tolist(),
            "classes": [rows[i][1] for i in kept],
            "scores": [rows[i][2] for i in kept],
        }
    return result


def ask_people(
    ledger: Ledger | None,
    round: int | str,
    *,
    records: Sequence[dict],
    known_classes: Sequence[str],
    class_names: Sequence[str],
    scorer: PoolScorer | None,
    name_unknown: bool = False,
    draft_score: float = 0.3,
    seconds_per_nucleus: float = 3.0,
    seconds_per_tile: float = 15.0,
    copy_images: bool = False,
) -> None:
    """Export the selected tiles, `records`, with drafts by `scorer` unless it is None. Collective.

    ledger: None on other ranks than 0. A batch that stands already is left as it is, without a look at the model.
    name_unknown: "unknown" is a word of the drafts and no answer.
    Raises AwaitingLabels unless the labels of all tiles have come in.
    """
    keys = [r["image_key"] for r in records]
    unknown, drafts = unknown_class(known_classes, class_names), {}
    if scorer is not None and not on_main(lambda: batch_stands(ledger, round, keys)):
        drafts = pre_annotations(
            scorer, keys, known_classes=known_classes, unknown_class=unknown, score_thresh=draft_score
        )

    def ask() -> None:
        folder = ledger.round_dir(round)
        scores, per_tile = read_scores(folder / "scores.npz"), mean_nuclei(ledger.labels().values())
        status = export_batch(
            ledger.folder,
            round=round,
            keys=keys,
            images=dict(zip(keys, records)),
            classes=list(class_names) if name_unknown else list(dict.fromkeys([*class_names, unknown])),
            predictions=drafts,
            nuclei=expected_nuclei(keys, per_tile=per_tile, detected=scores.get("n_detected", {})),
            tile_scores={k: {name: column[k] for name, column in scores.items()} for k in keys},
            reasons=ledger.selection(round)["reasons"],
            seconds_per_nucleus=seconds_per_nucleus,
            seconds_per_tile=seconds_per_tile,
            copy_images=copy_images,
        )
        if not status.complete:
            own = ledger.header.get("front") == "own"
            again = "start your own script again, with resume=True" if own else "start again with --resume"
            raise AwaitingLabels(
                f"awaiting labels for {len(keys)} tiles of round {round}: annotate "
                f"{folder / 'query' / 'batch.json'}, then run `python tools/al.py import {ledger.folder} FILE` and "
                f"{again}"
            )

    try:
        on_main(ask)
    except AwaitingLabels as stop:
        if comm.is_main_process():
            print(f"\n{stop}", flush=True)
        comm.synchronize()  # a process that ends early would cut off one that still waits for its message
        raise


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """The columns of scores.npz, by tile; empty where the strategy scores nothing."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        keys = [str(k) for k in stored["keys"]]
        return {
            n: dict(zip(keys, map(float, stored[n]))) for n in stored.files if n not in ("keys", "selected")
        }
