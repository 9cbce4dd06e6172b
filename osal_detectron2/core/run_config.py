"""By which front a run was started, and where its config stands."""

from collections.abc import Mapping
from pathlib import Path

from .store import write_bytes

# The fronts: `osal train`, `osal lazy`, and a session in anybody's own script or trainer. A campaign
# has records in the form of a run that ask for tiles and train nothing.
YAML, LAZY, OWN, CAMPAIGN = "yaml", "lazy", "own", "campaign"

# The resolved config that our tools read. Nobody else writes this name, while Detectron2's `default_setup` leaves a
# config.yaml of its own, before our session has filled in the classes or after it.
RUN_CONFIG = "run.yaml"
CONFIG = "config.yaml"  # the same for people; the only one in a run of an older version


def with_front(header: Mapping) -> dict:
    """The header of a run, with the front that one of an older version does not say, by its keys."""
    return {"front": LAZY if "train.amp.enabled" in header.get("config", {}) else YAML, **header}


def front_without_header(folder: str | Path) -> str:
    """The front of the config in a folder without a run.json, an export or a copy: `model:`, not `MODEL:`."""
    lines = config_file(folder).read_text().splitlines()
    return LAZY if any(line.startswith("model:") for line in lines) else YAML


def config_file(folder: str | Path) -> Path:
    """The file in `folder` that has the resolved config; it need not be there."""
    ours = Path(folder) / RUN_CONFIG
    return ours if ours.is_file() else Path(folder) / CONFIG


def write_config(folder: str | Path, text: str) -> None:
    """Write the resolved config of a run, for our tools and for people. Raises OutputError."""
    for name in (CONFIG, RUN_CONFIG):
        write_bytes(Path(folder) / name, text.encode())
