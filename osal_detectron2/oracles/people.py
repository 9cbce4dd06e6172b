"""The oracle of a lab: people, who get a batch and hand it back days later (docs/human_oracle.md)."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import LedgerError
from ..core.labels import LabelFile, TileLabels
from ..core.ledger import Ledger
from ..core.round_files import tile_scores
from ..exchange.batch import UNKNOWN
from .base import Oracle, Pending, Question, register
from .cost import expected_nuclei, mean_nuclei
from .export import batch_stands, export_batch
from .simulated import label


def unknown_class(known_classes: Sequence[str], class_names: Sequence[str]) -> str:
    """The class of a nucleus of which nothing is known but that it is of no known class.

    That of the data if it has exactly one besides the known ones, otherwise "unknown": people may answer that, for the
    detectors learn from known against unknown and not from the names of unknown classes.
    """
    others = [name for name in class_names if name not in known_classes]
    return others[0] if len(others) == 1 else UNKNOWN


@register
class HumanOracle(Oracle):
    """Exports a batch for each query, and answers once all of it has come back."""

    name = "human"

    def at_once(self, keys: Sequence[str]) -> dict[str, TileLabels] | None:
        """The initial tiles of a list are labelled already, in a campaign's record or in the data."""
        if not self.init_keys or not set(keys) <= set(self.init_keys):
            return None
        if record := self.settings["INIT_RECORD"]:
            labels = Ledger.open(record).labels()
            if missing := [key for key in keys if key not in labels]:
                raise LedgerError(f"{record}: has no committed label of tile {missing[0]}; label it first")
            return {key: labels[key] for key in keys}
        return label(self.records, keys, class_names=self.class_names)

    def wants_drafts(self, question: Question) -> bool:
        return not batch_stands(question.ledger, question.round_index, question.keys)

    def answer(self, question: Question) -> LabelFile | Pending:
        ledger, keys = question.ledger, question.keys
        if question.round_index == "init" and (given := self.at_once(keys)):
            answers = [*self.class_names]
            if self.settings["INIT_RECORD"]:
                answers.append(unknown_class(self.known_classes, self.class_names))
            return LabelFile(classes=tuple(dict.fromkeys(answers)), tiles=given)
        folder, selection = ledger.round_dir(question.round_index), ledger.selection(question.round_index)
        scores, per_tile = tile_scores(folder), mean_nuclei(ledger.labels().values())
        detected = {key: scores[key]["n_detected"] for key in keys if "n_detected" in scores.get(key, {})}
        unknown = unknown_class(self.known_classes, self.class_names)
        classes = [*self.class_names] if question.name_unknown else [*self.class_names, unknown]
        status = export_batch(
            ledger.folder,
            round_index=question.round_index,
            keys=keys,
            images=dict(zip(keys, question.records)),
            classes=list(dict.fromkeys(classes)),
            predictions=question.drafts,
            nuclei=expected_nuclei(keys, per_tile=per_tile, detected=detected),
            tile_scores={k: scores.get(k, {}) for k in keys},
            reasons=selection["reasons"] if selection else {},
            seconds_per_nucleus=self.settings["SECONDS_PER_NUCLEUS"],
            seconds_per_tile=self.settings["SECONDS_PER_TILE"],
            copy_images=self.settings["COPY_IMAGES"],
        )
        if status.complete:
            return LabelFile.read(folder / "labels.json")
        if self.settings["INIT_RECORD"]:
            return Pending(
                f"awaiting labels for {len(keys)} tiles of round {question.round_index}: `osal campaign sync "
                f"{ledger.folder.parent}` puts them into Label Studio and fetches what is done"
            )
        own = ledger.header.get("front") == "own"
        again = "start your own script again, with resume=True" if own else "start again with --resume"
        return Pending(
            f"awaiting labels for {len(keys)} tiles of round {question.round_index}: annotate "
            f"{folder / 'query' / 'batch.json'}, then run `osal run import {ledger.folder} FILE` and {again}"
        )
