"""Checkpoints that a kill or a full disk cannot truncate."""

import io
import json
import logging
import os
import pickle
from collections.abc import Callable, Mapping

import torch
from detectron2.utils import comm

from ..core.errors import ConfigError, LedgerError
from ..core.store import write_bytes
from ..modeling.checkpoint import OpenSetCheckpointer


class AtomicCheckpointer(OpenSetCheckpointer):
    """A checkpointer that writes each file under a temporary name and renames it when complete.

    The stock one writes in place: a kill leaves a truncated checkpoint or an empty `last_checkpoint`, and the
    next start fails on it.
    """

    def save(self, name: str, **kwargs) -> None:
        if not self.save_dir or not self.save_to_disk or not comm.is_main_process():
            return
        data = {"model": self.model.state_dict()}
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        data.update(kwargs)
        basename = f"{name}.pth"
        _save(data, os.path.join(self.save_dir, basename))
        self.tag_last_checkpoint(basename)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_bytes(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename.encode())

    def has_checkpoint(self) -> bool:
        """True if `last_checkpoint` names a file that is there; a stale or empty tag counts as none."""
        if not super().has_checkpoint():
            return False
        path = self.get_checkpoint_file()
        if os.path.isfile(path):
            return True
        logging.getLogger(__name__).warning(
            "last_checkpoint names %s, which is not a file: starting over", path
        )
        return False

    def load_initial(self, path: str) -> None:
        """Load the model weights that every round starts from, exactly."""
        if not os.path.isfile(path):
            raise LedgerError(
                f"{path}: the initial weights of this run are missing; start over in a new OUTPUT_DIR"
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state)

    def save_initial(self, path: str) -> None:
        """Write the weights that `load_initial` reads (model only)."""
        _save(self.model.state_dict(), path)

    def save_round(self, path: str, *, recipe: Mapping, train_seconds: float) -> None:
        """Write the detector of the round that just ended, and the state of its trainer but for the momentum.

        `last_checkpoint` does not follow. The file also serves as MODEL.WEIGHTS. recipe: see engine/round_0.py. Where
        the checkpointer has no trainer, as in a loop that is written out, no other run can start from the file.
        """
        content = {"model": self.model.state_dict()}
        if "trainer" in self.checkpointables:
            trainer = content["trainer"] = self.checkpointables["trainer"].state_dict()
            trainer.get("_trainer", trainer)["optimizer"]["state"] = {}  # every round starts with none
        _save({**content, "recipe": json.dumps(dict(recipe)), "train_seconds": train_seconds}, path)

    def load_round(self, path: str, *, check: Callable[[str], None]) -> float:
        """Load what `save_round` wrote into model and trainer, after check(recipe as JSON); returns train_seconds.

        Raises ConfigError for a file that is missing or something else.
        """
        if not os.path.isfile(path):
            raise ConfigError(
                f"OSAL.SCHEDULE.ROUND_0: {path} is not a file; give one, or '' to train round 0"
            )
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            recipe, model, trainer = content["recipe"], content["model"], content["trainer"]
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError):
            raise ConfigError(
                f"OSAL.SCHEDULE.ROUND_0: {path} is not a round_0.pth that OSAL.SCHEDULE.KEEP_ROUNDS leaves; "
                "give such a file, or '' to train round 0"
            ) from None
        check(recipe)
        self.model.load_state_dict(model)
        self.checkpointables["trainer"].load_state_dict(trainer)
        return content["train_seconds"]


def _save(data: dict, path: str) -> None:
    # Through memory: torch's own writer reports a full disk as a RuntimeError without path or reason.
    buffer = io.BytesIO()
    torch.save(data, buffer)
    write_bytes(path, buffer.getvalue())
