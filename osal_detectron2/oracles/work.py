"""What somebody did to her drafts."""

from collections.abc import Sequence

from ..core.agreement import difference
from ..core.labels import LABELLED, REJECTED, TileLabels, Work


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
