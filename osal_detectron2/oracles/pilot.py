"""What a pilot says of its annotators: their answers in a run, against the truth or against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from functools import partial
from itertools import combinations
from pathlib import Path

from ..core.annotation_cost import AnnotationCost
from ..core.cost_fit import PRICES, TimedTile, fit_cost
from ..core.errors import DataError
from ..core.labels import LABELLED, REVIEWED_EMPTY, LabelFile, TileLabels, Work
from ..core.ledger import Ledger
from ..data.coco_file import clip_box, read_coco
from ..exchange.batch import Request
from .answers import Answers
from .skill_fit import RATES, SkillFit, fit_skill, fit_times, rounded
from .timed import timed_tiles

Said = Mapping[str, Mapping[str, TileLabels]]  # tile -> annotator -> answer


def answers_in(run_folder: str | Path) -> dict[str, dict[str, TileLabels]]:
    """Everybody's latest answer to every tile of a run, or of a campaign's record: tile -> annotator -> labels."""
    Ledger.open(run_folder)
    said: dict[str, dict[str, TileLabels]] = {}
    for folder in sorted(Path(run_folder).glob("rounds/*")):
        request = Request.read(folder / "query")
        if request is not None:
            answers = Answers.read(folder / "query", request.batch)
            for key in request.tiles:
                said.setdefault(key, {}).update(answers.of(key))
        elif (folder / "labels.json").is_file():
            for key, labels in LabelFile.read(folder / "labels.json").tiles.items():
                said.setdefault(key, {})[labels.annotator] = labels
    return said


def truth_of(json_file: str | Path) -> dict[str, TileLabels]:
    """The labels of a COCO JSON by file_name. Raises DataError."""
    coco = read_coco(str(json_file))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    images = {image["id"]: image for image in coco["images"]}
    found: dict[str, list[tuple[list[float], str]]] = {image["file_name"]: [] for image in coco["images"]}
    for a in coco["annotations"]:
        image = images[a["image_id"]]
        box = clip_box(a["bbox"], image["width"], image["height"])
        if not a.get("iscrowd", 0) and min(box[2:]) > 0:
            found[image["file_name"]].append((box, names[a["category_id"]]))
    return {
        key: TileLabels(
            LABELLED if nuclei else REVIEWED_EMPTY, [b for b, _ in nuclei], [n for _, n in nuclei]
        )
        for key, nuclei in found.items()
    }


def describe_annotators(run_folder: str | Path, truth: Mapping[str, TileLabels] | None = None) -> str:
    """How the annotators of a run err, each and all, with the config that simulates them. truth: by tile, or None.

    Raises DataError where no tile has an answer to compare with.
    """
    said, people = answers_in(run_folder), set()
    pairs: dict[str, list[tuple[TileLabels, TileLabels]]] = {}
    for key, answers in said.items():
        if truth is not None and key in truth:
            for name, labels in answers.items():
                pairs.setdefault(name, []).append((truth[key], labels))
                people.add(name)
        elif truth is None:
            for (name, one), (other, two) in combinations(sorted(answers.items()), 2):
                pairs.setdefault(f"{name} and {other}", []).append((one, two))
                people |= {name, other}
    if not pairs:
        remedy = (
            "none of its tiles is in that file; give the COCO JSON with their true labels"
            if truth is not None
            else "no tile has answers of two annotators; have a second one label a batch, or give --truth COCO.json"
        )
        raise DataError(f"{run_folder}: {remedy}")
    everything = [pair for group in pairs.values() for pair in group]
    classes = {name for pair in everything for labels in pair for name in labels.classes}
    fit_of = partial(fit_skill, against_truth=truth is not None, num_classes=len(classes))
    lines = []
    for name, group in sorted(pairs.items()) if len(pairs) > 1 else ():
        try:
            lines += _lines(name, fit_of(group))
        except DataError as error:
            lines.append(f"{name}: {error}")
    together = fit_of(everything)
    lines += _lines("all", together)
    if truth is None:
        lines.append(
            "a mark that only one has counts as overlooked by the other; --truth tells false marks apart"
        )
    timed = _timed(run_folder, said)
    words = [f"OSAL.ORACLE.IMPERFECT.{k.upper()} {v:g}" for k, v in rounded(together.skill).items()]
    if timed:
        fit = fit_cost(timed, samples=1)
        cost = fit.cost if fit else AnnotationCost()
        for name, value in zip(("time_spread", "pace_spread"), fit_times(timed, cost)):
            if value is not None:
                lines.append(f"{name.replace('_', ' '):14s} {value:.2f}  (of {len(timed)} timed tiles)")
                words.append(f"OSAL.ORACLE.IMPERFECT.{name.upper()} {value:.2f}")
        words += [f"OSAL.ORACLE.SECONDS_{p.upper()} {v:.1f}" for p, v in zip(PRICES, astuple(cost)) if fit]
    words.append(f"OSAL.ORACLE.IMPERFECT.ANNOTATORS {len(people)}")
    return "\n".join([*lines, "as config: OSAL.ORACLE.NAME imperfect " + " ".join(words)])


def _timed(run_folder: str | Path, said: Said) -> list[TimedTile]:
    """The answers with a time: what tools measured, or what simulated annotators took."""
    return timed_tiles(run_folder) or [
        TimedTile(name, labels.seconds, labels.work or Work(marked=len(labels.boxes)))
        for answers in said.values()
        for name, labels in answers.items()
        if labels.seconds
    ]


def _lines(name: str, fit: SkillFit) -> list[str]:
    against = "the truth" if fit.against_truth else "each other"
    lines = [f"{name}, {fit.tiles} tiles and {fit.nuclei} nuclei against {against}, with 95 % interval:"]
    for rate in RATES:
        if rate == "false_marks" and not fit.against_truth:
            continue
        value, low, high = (getattr(skill, rate) for skill in (fit.skill, fit.low, fit.high))
        lines.append(f"  {rate.replace('_', ' '):12s} {value:6.3f}  ({low:.3f} to {high:.3f})")
    return lines
