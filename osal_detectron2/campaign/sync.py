"""Label Studio without files: what is asked goes up, what is done comes down, as often as one likes.

The server is asked what it has before anything is added, so a kill at any instant, or the same call twice, leaves one
project, one image and one task for each tile. A task is known by the tile's key and the batch in its data; an image by
the SHA-256 of its bytes in its name. All batches of a campaign are in one project, so that people have one place to go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import DataError
from ..core.lock import RunLock
from ..core.store import sha256_bytes, write_json
from ..exchange.batch import Request
from ..exchange.label_studio import labeling_config, task
from ..oracles.exchange import ImportReport, import_batch
from .folder import Campaign
from .label_studio import LabelStudio, ServerError, remember_address
from .training import open_requests, tile_image

_INSTRUCTION = (
    "Mark every nucleus with a box of its class, then Submit. Without any box, Submit says that there is no nucleus. "
    "Tick 'not usable' and Submit for a tile that cannot be used. Skip leaves it to others."
)


@dataclass
class Synced:
    """What a sync did. uploaded: tasks that are new on the server; reports: of what came back; refused: answers that
    cannot be taken, each a sentence; they are corrected in Label Studio."""

    url: str
    project: int
    uploaded: int = 0
    reports: list[ImportReport] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def sync(
    campaign: Campaign,
    server: LabelStudio,
    *,
    treat_skipped_as: str = "pending",
    progress: Callable[[str], None] | None = None,
) -> Synced:
    """Bring campaign and server together. Hold the campaign's lock.

    Raises ServerError where the server does not answer, and DataError where a tile's image is missing; give it again.
    """
    requests = open_requests(campaign)
    project = _project(campaign, server, [request for _, request in requests])
    remember_address(campaign.folder, server.url)
    done = Synced(f"{server.url}/projects/{project['id']}", project["id"])
    present: dict[tuple, list[dict]] = {}
    for one in server.tasks(project["id"]):
        present.setdefault((one["data"].get("osal_key"), one["data"].get("osal_batch")), []).append(one)
    for _, request in requests:
        missing = [key for key in request.tiles if (key, request.batch) not in present]
        done.uploaded += _upload(campaign, server, project["id"], request, missing, progress)
    people = server.users() if present else {}
    for folder, request in requests:
        tasks = [one for key in request.tiles for one in present.get((key, request.batch), ())]
        if any(one["annotations"] for one in tasks):
            _take(campaign, folder, request, _named(tasks, people), treat_skipped_as, done)
    return done


def _project(campaign: Campaign, server: LabelStudio, requests: Sequence[Request]) -> dict:
    """The campaign's project, made if it is not there; its classes are those that are asked for, and more of before."""
    mark = f"osal campaign {campaign.identity}"
    project = server.find_project(mark)
    offered = list(dict.fromkeys(name for request in requests for name in request.offered))
    if project is None:
        if not offered:
            raise DataError(
                f"{campaign.folder}: nothing waits for labels, so there is nothing to put into Label Studio"
            )
        return server.make_project(
            title=campaign.folder.absolute().name[:40].ljust(3, "_"),
            description=f"{mark}: {', '.join(campaign.settings.known)}",
            label_config=labeling_config(offered),
            expert_instruction=_INSTRUCTION,
            show_instruction=True,
            show_skip_button=True,
            sampling="Sequential sampling",
        )
    missing = [name for name in offered if name not in _classes(project)]
    if missing:
        server.change_project(project["id"], label_config=labeling_config([*_classes(project), *missing]))
    return project


def _classes(project: Mapping) -> list[str]:
    parsed = project.get("parsed_label_config") or {}
    return list((parsed.get("nucleus") or {}).get("labels") or ())


def _upload(
    campaign: Campaign,
    server: LabelStudio,
    project: int,
    request: Request,
    missing: list[str],
    progress: Callable[[str], None] | None,
) -> int:
    """Put the missing tiles on the server, in the order in which they are asked for."""
    if not missing:
        return 0
    there = server.uploads(project)
    names = {}
    for number, key in enumerate(missing, start=1):
        path = tile_image(campaign, key)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); restore the tile from a copy"
            ) from error
        names[key] = f"osal{sha256_bytes(content)[:24]}{path.suffix.lower()}"
        if names[key] not in there:
            server.upload(project, names[key], content)
            if progress:
                progress(f"{number} of {len(missing)} tiles of round {request.round_index} uploaded")
    there = server.uploads(project)
    if lost := [key for key in missing if names[key] not in there]:
        raise ServerError(f"{server.url}: has not kept the image of {lost[0]}; give the command again")
    ranks = {key: rank for rank, key in enumerate(request.tiles, start=1)}
    new = [task(request, key, rank=ranks[key], image=f"/data/{there[names[key]]}") for key in missing]
    server.add_tasks(project, new)
    return len(new)


def _named(tasks: Sequence[dict], people: Mapping[int, str]) -> list[dict]:
    """The tasks as Label Studio exports them, with the e-mail addresses of those who labelled."""
    for one in tasks:
        for annotation in one["annotations"]:
            who = annotation.get("completed_by")
            if isinstance(who, int) and who in people:
                annotation["completed_by"] = {"id": who, "email": people[who]}
    return list(tasks)


def _take(
    campaign: Campaign, folder: Path, request: Request, tasks: list[dict], treat_skipped_as: str, done: Synced
) -> None:
    """Take the answers into the batch; where some cannot be taken, the others, and say which and why."""
    file = campaign.folder / "sync" / f"{folder.name}-{request.round_index}.json"

    def import_these(these: list[dict]) -> ImportReport:
        write_json(file, these)
        return import_batch(folder, file, format="label-studio", treat_skipped_as=treat_skipped_as)

    with RunLock(folder):
        try:
            done.reports.append(import_these(tasks))
            return
        except DataError as error:
            if len(tasks) == 1:
                done.refused.append(str(error))
                return
        sound, refused = [], []
        for one in tasks:
            try:
                write_json(file, [one])
                import_batch(
                    folder, file, format="label-studio", treat_skipped_as=treat_skipped_as, dry_run=True
                )
                sound.append(one)
            except DataError as error:
                refused.append(
                    str(error).replace("nothing was imported", f"tile {one['data']['osal_key']} is left out")
                )
        done.refused += refused
        if sound:
            done.reports.append(import_these(sound))
