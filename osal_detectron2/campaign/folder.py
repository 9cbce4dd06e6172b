"""The folder of a campaign: what was asked for at the beginning, and where everything stands.

campaign.json    the settings and the hashes of the two files below; written last, never changed
pool.json        COCO of the tiles to choose from; test.json: of those to measure on; both without labels
tiles/           the tiles, cut or copied
first/  test/    the records of the tiles that are asked for before any training, each as a run folder
config.yaml      of the training, written when the first tiles are labelled
run/             the training: an ordinary run (docs/architecture.md)
label-studio.json  the address of the tool, if there is one; sync/ what came back from it last
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..core.errors import DataError, LedgerError
from ..core.ledger import Ledger
from ..core.store import read_json, sha256_file, write_json

SCHEMA = "osal-campaign/1"
SETTINGS, BEGUN = "campaign.json", "campaign.begun.json"
POOL, TEST = "pool.json", "test.json"
FIRST_RECORD, TEST_RECORD, RUN = "first", "test", "run"


@dataclass(frozen=True)
class Settings:
    """What `osal campaign init` was told. images, labelled, slides: paths; seed: of all that is drawn.

    tile: side in pixels; downsample: pixels of a slide a pixel of a tile; minutes: of one sitting; batches: queries;
    test_fraction: share of the slides that is kept apart; test_sittings: what labelling the test tiles takes;
    slide_rule: how slides are told apart (grouping.py).
    """

    images: str
    classes: tuple[str, ...]
    known: tuple[str, ...]
    minutes: float = 40.0
    batches: int = 5
    seed: int = 0
    tile: int = 256
    downsample: float = 1.0
    nucleus_size: float = 20.0
    test_fraction: float = 0.2
    test_sittings: float = 1.0
    labelled: str = ""
    slides: str = ""
    slide_rule: str = ""
    weights: str = ""
    network: str = ""
    device: str = ""
    strategy: str = ""


@dataclass(frozen=True)
class Campaign:
    """A campaign that has begun. notes: sentences that people should know. left_out: {why: tiles}.

    slides: {"pool": n, "test": n}; apart: whether the test tiles come from slides of their own.
    """

    folder: Path
    identity: str
    settings: Settings
    files: Mapping[str, str]
    slides: Mapping[str, int]
    apart: bool
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @classmethod
    def open(cls, folder: str | Path) -> Campaign:
        """The campaign in `folder`. Raises LedgerError without one, or with a changed list of tiles; DataError."""
        folder = Path(folder)
        path = folder / SETTINGS
        if not path.is_file():
            unfinished = (folder / BEGUN).is_file()
            raise LedgerError(
                f"{folder}: {'was not finished by `osal campaign init`; give that command again' if unfinished else ''}"
                f"{'' if unfinished else 'no campaign.json, so no campaign; begin one with `osal campaign init`'}"
            )
        content = read_json(path)
        try:
            if content["schema"] != SCHEMA:
                raise KeyError("schema")
            settings = Settings(**_tuples(content["settings"]))
            campaign = cls(
                folder,
                content["id"],
                settings,
                content["files"],
                content["slides"],
                content["apart"],
                content["left_out"],
                tuple(content["notes"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: is not of schema {SCHEMA} ({error}); restore it from a copy") from error
        for name, digest in campaign.files.items():
            if sha256_file(folder / name) != digest:
                raise LedgerError(
                    f"{folder / name}: changed since the campaign began; restore it from a copy"
                )
        return campaign

    def write(self) -> None:
        """Write campaign.json: from here on it is a campaign. Raises OutputError."""
        content = {
            "schema": SCHEMA,
            "id": self.identity,
            "settings": asdict(self.settings),
            "files": dict(self.files),
            "slides": dict(self.slides),
            "apart": self.apart,
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }
        write_json(self.folder / SETTINGS, content)

    @property
    def tiles(self) -> Path:
        """The folder of the tiles, below which are the image keys."""
        return self.folder / "tiles"

    @property
    def run(self) -> Path:
        """The training's run folder; it need not be there yet."""
        return self.folder / RUN

    def record(self, name: str) -> Ledger:
        """The record "first" or "test". Raises LedgerError where it is lost."""
        return Ledger.open(self.folder / name)

    def coco(self, name: str) -> dict:
        """The parsed pool.json or test.json."""
        return read_json(self.folder / name)


def _tuples(settings: Mapping) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def run_folders(folder: str | Path) -> list[Path]:
    """The run folders of a campaign, or `folder` itself where it is a run. Raises LedgerError if it is neither."""
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        return [Ledger.open(folder).folder]
    campaign = Campaign.open(folder)
    places = (folder / FIRST_RECORD, folder / TEST_RECORD, campaign.run)
    return [place for place in places if Ledger.exists(place)]
