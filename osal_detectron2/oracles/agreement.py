"""Whether two annotators say the same of a tile, and if not, what they differ in; and what one did to her drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.boxes import pairwise_iou_xywh
from ..core.labels import LABELLED, REJECTED, TileLabels, Work

AGREE_IOU = 0.5


@dataclass(frozen=True)
class Difference:
    """Nuclei of two answers for one tile.

    same: in both, of one class. other_class: in both, (class, class) -> number. only: in the first or the second alone.
    states: the two states, where they differ.
    """

    same: int
    other_class: Counter[tuple[str, str]]
    only: tuple[int, int]
    states: tuple[str, str] | None

    def __bool__(self) -> bool:
        return bool(self.other_class) or any(self.only) or self.states is not None

    def words(self, first: str, second: str) -> str:
        """In words, with the names of the annotators."""
        if self.states is not None:
            return f"{first} says {self.states[0]}, {second} says {self.states[1]}"
        parts = [f"{self.same} nuclei the same"]
        parts += [f"{n} {a} or {b}" for (a, b), n in sorted(self.other_class.items())]
        parts += [f"{n} only {name}'s" for n, name in zip(self.only, (first, second)) if n]
        return f"{first} and {second}: " + ", ".join(parts)


def difference(first: TileLabels, second: TileLabels) -> Difference:
    """Compare two answers: boxes are one nucleus at an IoU of .5 or more, best pairs first, each box once.

    Pairs of one class come before pairs of two.
    """
    iou = pairwise_iou_xywh(first.boxes, second.boxes)
    pairs = sorted(
        (first.classes[a] != second.classes[b], -iou[a, b], a, b)
        for a, b in zip(*(iou >= AGREE_IOU).nonzero())
    )
    left, right = set(range(len(first.boxes))), set(range(len(second.boxes)))
    same = 0
    other: Counter[tuple[str, str]] = Counter()
    for differ, _, a, b in pairs:
        if a in left and b in right:
            left.discard(a)
            right.discard(b)
            if differ:
                other[first.classes[a], second.classes[b]] += 1
            else:
                same += 1
    states = (first.state, second.state) if first.state != second.state else None
    return Difference(same=same, other_class=other, only=(len(left), len(right)), states=states)


def work_of(drafts: Sequence[tuple[str, float, float, float, float]], labels: TileLabels) -> Work | None:
    """What somebody did who had `drafts` (class, x, y, w, h) before her and made `labels` of them; None without drafts.

    A draft is confirmed if a nucleus of its class is there (IoU .5 or more), however its box was moved.
    """
    if not drafts:
        return None
    if labels.state == REJECTED:
        return Work()
    before = TileLabels(LABELLED, [box for _, *box in drafts], [name for name, *_ in drafts])
    found = difference(before, labels)
    corrected = found.other_class.total() + found.only[0]
    return Work(marked=found.only[1], confirmed=found.same, corrected=corrected)
