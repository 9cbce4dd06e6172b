"""Whether the record of a campaign is complete and unchanged: each part for itself, and what joins them."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import OSALError
from ..core.ledger import Ledger
from ..core.round_files import read_metrics
from ..core.rounds import INIT
from ..core.store import sha256_file
from ..core.verify import verify
from .folder import FIRST_RECORD, TEST_RECORD, Campaign
from .record import coco_name


def verify_campaign(folder: str | Path) -> list[str]:
    """The faults of the campaign in `folder`, one sentence each; [] for a sound one."""
    try:
        campaign = Campaign.open(folder)
        findings = []
        for name in (FIRST_RECORD, TEST_RECORD):
            findings += verify(campaign.folder / name)
            findings += [] if findings else _belongs(campaign, name)
        missing = [
            image["file_name"]
            for record in (FIRST_RECORD, TEST_RECORD)
            for image in campaign.coco(coco_name(record))["images"]
            if not (campaign.tiles / image["file_name"]).is_file()
        ]
        findings += [f"{campaign.tiles / key}: is missing" for key in missing[:20]]
        if Ledger.exists(campaign.run) and not findings:
            findings += verify(campaign.run) or _joined(campaign)
    except OSALError as error:
        return [str(error)]
    return findings


def _belongs(campaign: Campaign, name: str) -> list[str]:
    """A record says of which campaign it is, and of which tiles."""
    header, path = campaign.record(name).header, campaign.folder / name / "run.json"
    if header["config"].get("campaign") != campaign.identity:
        return [f"{path}: is of another campaign"]
    if header["dataset_sha256"] != campaign.files[coco_name(name)]:
        return [f"{path}: asks for tiles of another {coco_name(name)}"]
    return []


def _joined(campaign: Campaign) -> list[str]:
    """The training began from the labels of the first record, and was measured on those of the test record."""
    run, first, test = Ledger.open(campaign.run), campaign.record(FIRST_RECORD), campaign.record(TEST_RECORD)
    findings, commits = [], run.commits()
    if commits:
        labels = run.labels()
        began = {key: labels[key] for key in commits[0]["selected"]}
        if began != first.labels():
            findings.append(f"{run.round_dir(INIT)}: its labels are not those of {first.folder}")
    on_file = test.round_dir(INIT) / "commit.json"
    for commit in commits[1:]:
        metrics = read_metrics(run.round_dir(commit["round"])) or {}
        measured = metrics.get("test_record")
        if metrics.get("bbox") and (not on_file.is_file() or measured != sha256_file(on_file)):
            file = run.round_dir(commit["round"]) / "metrics.json"
            findings.append(f"{file}: was measured on other labels than those of {test.folder}")
    return findings
