"""From the labelled tiles of a campaign to its training: the config that follows from them, and the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from ..core.cost_fit import PRICES
from ..core.errors import ConfigError
from ..core.extension import QUERIES
from ..core.labels import REJECTED, TileLabels
from ..core.ledger import Ledger
from ..core.lock import RunLock
from ..core.store import write_bytes
from ..exchange.batch import Request
from ..oracles.cost import mean_nuclei
from .folder import FIRST_RECORD, POOL, TEST, TEST_RECORD, Campaign
from .record import commit_if_complete, has_nuclei
from .times import cost_so_far

CONFIG, FIRST_LIST = "config.yaml", "first.txt"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def awaited(campaign: Campaign) -> list[Path]:
    """The run folders whose batch waits for labels, the one that training waits for first."""
    from ..oracles.progress import batch_status

    found = []
    for folder in (campaign.run, campaign.folder / FIRST_RECORD, campaign.folder / TEST_RECORD):
        if Ledger.exists(folder) and (status := batch_status(folder)) is not None and not status.complete:
            found.append(folder)
    return found


def prepare(campaign: Campaign) -> list[str]:
    """Take what is labelled into the records and write the config, as far as possible. Returns what was done, in words.

    Hold the campaign's lock. Raises ConfigError where the first tiles hold no known nucleus; OutputError.
    """
    done = []
    for name, what in ((FIRST_RECORD, "first tiles"), (TEST_RECORD, "test tiles")):
        with RunLock(campaign.folder / name):
            if commit_if_complete(campaign, name):
                done.append(f"the labels of the {what} are in the record")
    first = campaign.record(FIRST_RECORD)
    if first.last_committed is None or (campaign.folder / CONFIG).is_file():
        return done
    labels = first.labels()
    if not has_nuclei(labels, campaign.settings.known):
        raise ConfigError(
            f"{first.folder}: no first tile holds a nucleus of {', '.join(campaign.settings.known)}; there "
            "is nothing to train on. Begin a new campaign with other images or classes"
        )
    lines = "".join(f"{key}\n" for key in labels)
    write_bytes(campaign.folder / FIRST_LIST, lines.encode())
    write_bytes(campaign.folder / CONFIG, config_of(campaign, labels).encode())
    return [
        *done,
        f"{campaign.folder / CONFIG} written: detector, input size and anchors follow from the labels",
    ]


def config_of(campaign: Campaign, labels: Mapping[str, TileLabels]) -> str:
    """The text of the config, from the labels of the first tiles."""
    from ..data.proposal import Setting
    from ..data.proposed_config import config_text, proposed_settings

    settings = campaign.settings
    device = settings.device or _device()
    train = with_labels(campaign.coco(POOL), labels)
    proposed = proposed_settings(
        train,
        None,
        settings.known,
        bases=CONFIGS,
        device=device,
        weights=settings.weights,
        network=settings.network,
        people=True,
        nucleus_side=settings.nucleus_size,
        image_root=str(campaign.tiles),
    )
    cost, per_tile = cost_so_far(campaign), mean_nuclei(labels.values()) or 0.0
    spent = sum(cost.of(tile) for tile in labels.values())
    prices = zip(PRICES, astuple(cost))
    budget = "OSAL.BUDGET."
    own = [
        Setting(budget + "INIT_FILE", FIRST_LIST, "The tiles that were labelled first."),
        Setting(
            budget + "UNIT", "seconds", "Of annotation: a batch is a sitting, however dense its tiles are."
        ),
        Setting(budget + "INIT", round(spent, 1), "What the first tiles took, or would have by the prices."),
        Setting(budget + "QUERY", 60 * settings.minutes, f"A sitting of {settings.minutes:g} minutes."),
        Setting(budget + "NUCLEI_PER_TILE", max(per_tile, 1.0), "The mean of the first tiles."),
        *(
            Setting(f"OSAL.ORACLE.SECONDS_{n.upper()}", round(v, 2), "Fitted to measured times, or assumed.")
            for n, v in prices
        ),
        Setting(budget + "NUM_QUERIES", settings.batches, "More later: osal campaign next --batches N."),
        Setting("OSAL.DATA.KNOWN_CLASSES", list(settings.known), "In the order of the detector's outputs."),
        Setting("OSAL.SEED", settings.seed, "Of all that is drawn."),
    ]
    if settings.strategy:
        own.append(Setting("OSAL.STRATEGY", settings.strategy, "As given."))
    replaced = {setting.key for setting in own} | {budget + "INIT_TILES", budget + "QUERY_TILES"}
    head = "Written by `osal campaign next` from the first labels; the places of the data are given by the command."
    return config_text([*(s for s in proposed if s.key not in replaced), *own], head)


def with_labels(coco: Mapping, labels: Mapping[str, TileLabels]) -> dict:
    """The parsed COCO file of tiles, with the boxes of `labels`; classes that people have added are added."""
    ids = {c["name"]: c["id"] for c in coco["categories"]}
    images = {image["file_name"]: image["id"] for image in coco["images"]}
    annotations: list[dict] = []
    for key, tile in labels.items():
        if tile.state == REJECTED:
            continue
        for name, box in zip(tile.classes, tile.boxes):
            category = ids.setdefault(name, max(ids.values()) + 1)
            number = len(annotations) + 1
            entry = {"id": number, "image_id": images[key], "category_id": category, "bbox": list(box)}
            annotations.append(entry | {"area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": coco["images"], "annotations": annotations, "categories": categories}


def must_wait(campaign: Campaign, *, batches: int | None = None, unmeasured: bool = False) -> bool:
    """Whether training can do nothing now: it waits for labels, or the plan is done and no longer one is asked for.

    Before the first round it waits for the test tiles too, unless `unmeasured`: a round that ends without them is never
    measured.
    """
    waiting = awaited(campaign)
    if not Ledger.exists(campaign.run):
        return campaign.folder / FIRST_RECORD in waiting or (bool(waiting) and not unmeasured)
    last = Ledger.open(campaign.run).last_committed
    if isinstance(last, int) and last >= planned(campaign):
        return batches is None or batches <= planned(campaign)
    return campaign.run in waiting


def training_words(campaign: Campaign, batches: int | None = None) -> list[str]:
    """What `osal train` gets: its config the first time; places and device, which differ between machines.

    batches: queries of the whole plan, as before if None.
    """
    begun = Ledger.exists(campaign.run)  # then it knows its own config
    if batches is None and begun:
        batches = int(Ledger.open(campaign.run).header["config"][QUERIES])
    here = campaign.folder.absolute()
    words: dict[str, object] = {
        "OUTPUT_DIR": campaign.run.absolute(),
        "OSAL.DATA.TRAIN_JSON": here / POOL,
        "OSAL.DATA.TRAIN_IMAGE_ROOT": here / "tiles",
        "OSAL.DATA.TEST_JSON": here / TEST,
        "OSAL.DATA.TEST_IMAGE_ROOT": here / "tiles",
        "OSAL.DATA.TEST_RECORD": here / TEST_RECORD,
        "OSAL.ORACLE.INIT_RECORD": here / FIRST_RECORD,
        "OSAL.BUDGET.INIT_FILE": here / FIRST_LIST,
        "MODEL.DEVICE": campaign.settings.device or _device(),
        **({} if batches is None else {QUERIES: batches}),
    }
    config = [] if begun else ["--config-file", str(campaign.folder / CONFIG)]
    return [*config, "--resume", *(str(word) for pair in words.items() for word in pair)]


def planned(campaign: Campaign) -> int:
    """Queries of the whole plan."""
    if not Ledger.exists(campaign.run):
        return campaign.settings.batches
    return len(Ledger.open(campaign.run).header["plan"]) - 1


def tile_image(campaign: Campaign, key: str) -> Path:
    """The file of a tile, wherever the campaign has been moved to."""
    return campaign.tiles / key


def open_requests(campaign: Campaign) -> list[tuple[Path, Request]]:
    """(run folder, question) of every batch that waits for labels."""
    from ..oracles.exchange import open_request

    return [(folder, open_request(folder)[2]) for folder in awaited(campaign)]


def _device() -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
