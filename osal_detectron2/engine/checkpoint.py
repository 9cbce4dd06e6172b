"""Checkpoints that a kill or a full disk cannot truncate."""

import io
import json
import logging
import os
import pickle
from collections.abc import Mapping

import torch
from detectron2.utils import comm

from ..core.errors import ConfigError, LedgerError
from ..core.ledger import Ledger
from ..core.schedule import RoundSchedule
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

    def load(self, path: str, *args, **kwargs) -> dict:
        """As the stock one. Raises ConfigError for weights that cannot be had, or are none."""
        if path and "://" in path:
            try:
                path = self.path_manager.get_local_path(path)
            except Exception as error:  # the network, the cache folder and iopath each have their own
                raise ConfigError(
                    f"the weights {path} cannot be downloaded ({_reason(error)}); give a local file as MODEL.WEIGHTS "
                    "(train.init_checkpoint of a lazy config), or '' for random weights"
                ) from error
        try:
            return super().load(path, *args, **kwargs)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, AssertionError,
                pickle.UnpicklingError) as error:  # fmt: skip
            raise ConfigError(
                f"{path}: cannot be loaded as weights ({_reason(error)}); give another file, or '' for random weights"
            ) from error

    def _load_file(self, filename: str) -> dict:
        if filename.endswith(".pkl"):  # Detectron2 unpickles these, which could run anything
            with open(filename, "rb") as file:
                _Arrays(file, encoding="latin1").load()
        return super()._load_file(filename)

    def _torch_load(self, filename: str) -> dict:
        return torch.load(filename, map_location="cpu", weights_only=True)

    def get_checkpoint_file(self) -> str:
        """The file in `save_dir` that `last_checkpoint` names; one that it names elsewhere is none of this run."""
        return os.path.join(self.save_dir, os.path.basename(super().get_checkpoint_file()))

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

        `last_checkpoint` does not follow. The file also serves as MODEL.WEIGHTS. recipe: see engine/recipe.py. Where
        the checkpointer has no trainer, as in a plain loop, no other run can start from the file.
        """
        content = {"model": self.model.state_dict()}
        if "trainer" in self.checkpointables:
            trainer = content["trainer"] = self.checkpointables["trainer"].state_dict()
            trainer.get("_trainer", trainer)["optimizer"]["state"] = {}  # every round starts with none
        _save({**content, "recipe": json.dumps(dict(recipe)), "train_seconds": train_seconds}, path)

    @staticmethod
    def read_round(path: str) -> dict:
        """What `save_round` wrote, "recipe" as JSON. Raises ConfigError for a file that is missing or another one."""
        if not os.path.isfile(path):
            raise ConfigError(
                f"OSAL.SCHEDULE.ROUND_0: {path} is not a file; give one, or '' to train round 0"
            )
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            return {name: content[name] for name in ("recipe", "model", "trainer", "train_seconds")}
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError):
            raise ConfigError(
                f"OSAL.SCHEDULE.ROUND_0: {path} is not a round_0.pth that OSAL.SCHEDULE.KEEP_ROUNDS leaves; "
                "give such a file, or '' to train round 0"
            ) from None

    def load_round(self, content: Mapping) -> None:
        """Load what `read_round` returns into model and trainer."""
        self.model.load_state_dict(content["model"])
        self.checkpointables["trainer"].load_state_dict(content["trainer"])


class _Arrays(pickle.Unpickler):
    """Reads what a model zoo's .pkl holds, arrays by name, and refuses all else."""

    def find_class(self, module: str, name: str):
        allowed = {"_reconstruct", "scalar", "ndarray", "dtype", "OrderedDict", "encode"}
        if module.split(".")[0] in ("numpy", "collections", "_codecs") and name in allowed:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name} and not arrays alone; nothing was run")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_reached(ledger: Ledger | None, schedule: RoundSchedule, *, completed: int) -> None:
    """Raises LedgerError if a round is committed whose training is not in a checkpoint of `completed` iterations.

    To train it again would be on labels that came after it. ledger: None where there is no run yet.
    """
    last = ledger.last_committed if ledger else None
    if isinstance(last, int) and completed < schedule.boundaries[last]:
        raise LedgerError(
            f"{ledger.folder}: round {last} is committed, which takes {schedule.boundaries[last]} iterations, but the "
            f"checkpoint that last_checkpoint names is missing or has {completed}; restore it, or write the name of a "
            "later one (boundary.pth, model_final.pth) into last_checkpoint, or start over in a new OUTPUT_DIR"
        )


def _save(data: dict, path: str) -> None:
    # Through memory: torch's own writer reports a full disk as a RuntimeError without path or reason.
    buffer = io.BytesIO()
    torch.save(data, buffer)
    write_bytes(path, buffer.getvalue())
