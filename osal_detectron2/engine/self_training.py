"""Batches of a round with pool tiles among them that a mean teacher has labelled (OSAL.SEMI)."""

from collections.abc import Iterable, Iterator, Sized
from dataclasses import KW_ONLY, dataclass

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_context
from detectron2.structures import Boxes
from detectron2.utils import comm
from torch import nn

from ..core.errors import ConfigError
from ..data.round_loader import seeded
from ..data.strong_view import StrongView
from ..modeling.detectors import Detectors
from ..modeling.mean_teacher import MeanTeacher, pseudo_labels, show_unknown
from ..modeling.roi_heads import OpenSetBoxHeads
from ..modeling.unknown import PSEUDO, OpenSetRPN
from .checkpoint import AtomicCheckpointer


class SelfTraining:
    """A teacher of the target of `model`, and what it does to a batch. Its weights go into `checkpointer`'s files.

    Args:
        model: as it is trained. settings: the node OSAL.SEMI. image_format: INPUT.FORMAT. seed: of the run.

    Raises:
        ConfigError: a target that cannot leave out what the teacher is in doubt about.
    """

    def __init__(
        self,
        model: nn.Module,
        checkpointer: AtomicCheckpointer,
        *,
        settings: CfgNode,
        image_format: str,
        seed: int,
    ) -> None:
        detectors = Detectors(model)
        target = detectors.target
        for part, kind, key in (
            (target.proposal_generator, OpenSetRPN, "MODEL.PROPOSAL_GENERATOR.NAME OpenSetRPN"),
            (
                target.roi_heads,
                OpenSetBoxHeads,
                "open-set ROI heads, e.g. MODEL.ROI_HEADS.NAME OpenSetStandardROIHeads",
            ),
        ):
            if not isinstance(part, kind):
                raise ConfigError(
                    f"OSAL.SEMI.ENABLED needs {key}, which leave out what looks unknown, not {type(part).__name__}"
                )
        self.settings, self.seed = settings, seed
        self.num_known, self.auxiliary = detectors.num_known, detectors.auxiliary
        self.left_out = target.roi_heads.num_classes
        self.strong = StrongView(image_format)
        self.teacher = MeanTeacher(target, decay=settings.EMA)
        show_unknown(self.teacher.model)
        checkpointer.add_checkpointable("teacher", self.teacher)

    def begin_round(self, *, first_iteration: int) -> None:
        """Raises ConfigError in mid-round if no checkpoint brought the teacher."""
        if first_iteration == 0:
            self.teacher.start()
        elif not self.teacher.follows:
            raise ConfigError(
                "OSAL.SEMI: the checkpoint was loaded before session.hook was called, or holds no teacher: call "
                "session.hook first, then load the checkpoint (docs/plug_in_hook.md)"
            )

    @torch.no_grad()
    def taught(self, tiles: list[dict], *place: int) -> list[dict]:
        """The weakly augmented `tiles` as the student sees them: strongly augmented, with the teacher's labels.

        `place`: in the run; what is drawn follows from it and the seed.
        """
        found = self.teacher.model.inference(tiles, do_postprocess=False)
        unknown = self._unknown(tiles)
        taught = []
        for index, tile in enumerate(tiles):
            labels = pseudo_labels(
                found[index],
                unknown[index],
                num_known=self.num_known,
                score_thresh=self.settings.SCORE_THRESH,
                floor=self.settings.FLOOR,
                left_out=self.left_out,
            )
            with seeded(self.seed, "strong", *place, index):
                image = self.strong(tile["image"])
            taught.append({**tile, "image": image, "instances": labels.to("cpu"), PSEUDO: True})
        return taught

    def _unknown(self, tiles: list[dict]) -> list[Boxes]:
        """What the auxiliary takes for unknown nuclei, in network coordinates."""
        if self.auxiliary is None:
            device = self.teacher.model.device
            return [Boxes(torch.zeros((0, 4), device=device)) for _ in tiles]
        with inference_context(self.auxiliary):
            found = self.auxiliary.inference(tiles, do_postprocess=False)
        last = self.auxiliary.roi_heads.num_classes - 1
        return [f.pred_boxes[f.pred_classes == last] for f in found]


@dataclass(eq=False)
class TaughtBatches:
    """Batches first_batch .. length-1 of a round: those of `labelled`, after the burn-in with those of `pool`."""

    training: SelfTraining
    labelled: Sized
    pool: Iterable[list[dict]]
    _: KW_ONLY
    round_index: int
    first_batch: int
    length: int

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[list[dict]]:
        for number, (mine, theirs) in enumerate(zip(self.labelled, self.pool), start=self.first_batch):
            if number < self.training.settings.BURN_IN * self.length:
                yield mine
            else:
                yield mine + self.training.taught(theirs, self.round_index, number, comm.get_rank())
