"""Against a real Label Studio: one project, one task a tile, whatever is killed; answers back with who and how long."""

import json
import os
from pathlib import Path

import pytest
from annotator import boxes_in, label_open_tasks, region, truth_of
from commands import Terminal
from label_studio_server import EMAIL, EXECUTABLE, WITHOUT, label_studio

from osal_detectron2.campaign.label_studio import TOKEN, LabelStudio
from osal_detectron2.core.labels import REJECTED, REVIEWED_EMPTY
from osal_detectron2.oracles.answers import Answers
from osal_detectron2.oracles.exchange import open_request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.access(EXECUTABLE, os.X_OK), reason=WITHOUT),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with label_studio(tmp_path_factory.mktemp("label_studio")) as found:
        yield found


def sizes_of(campaign):
    coco = [image for name in ("pool.json", "test.json") for image in campaign.coco(name)["images"]]
    return {image["file_name"]: (image["width"], image["height"]) for image in coco}


def test_a_campaign_goes_through_label_studio_and_back(server, campaign, scans):
    url, token, _ = server
    terminal = Terminal(environment={TOKEN: token}, kills=8)
    said = terminal.run("sync", campaign.folder, "--label-studio", url, most=8, within=2.5)
    api = LabelStudio(url, token)
    project = api.find_project(f"osal campaign {campaign.identity}")["id"]
    asked = [key for name in ("first", "test") for key in campaign.record(name).selection("init")["selected"]]
    tasks = list(api.tasks(project))
    assert sorted(t["data"]["osal_key"] for t in tasks) == sorted(asked), (
        "one task a tile, although it was killed"
    )
    assert [t["data"]["osal_key"] for t in tasks][: len(asked)] == asked, (
        "in the order in which they are asked for"
    )
    assert len(api.uploads(project)) == len(asked), "one image a tile"
    assert "0 of" in said and token not in said
    truth, sizes = truth_of(scans.parent / "truth.json"), sizes_of(campaign)

    # Half of them; one cannot be taken, one is not usable, one has no nucleus, one is skipped.
    first, twice, unusable, empty, skipped, *_ = tasks
    key = twice["data"]["osal_key"]
    name, box = boxes_in(truth, key, *sizes[key])[0]
    doubled = [region(i, name, box, *sizes[key]) for i in range(2)]
    wrong = api._call("POST", f"/api/tasks/{twice['id']}/annotations/", {"result": doubled, "lead_time": 30})
    choice = {
        "type": "choices",
        "from_name": "tile",
        "to_name": "image",
        "value": {"choices": ["not usable"]},
    }
    for task, result in ((unusable, [choice]), (empty, [])):
        api._call("POST", f"/api/tasks/{task['id']}/annotations/", {"result": result, "lead_time": 4.5})
    cancelled = {"result": [], "was_cancelled": True, "lead_time": 2}
    api._call("POST", f"/api/tasks/{skipped['id']}/annotations/", cancelled)
    assert label_open_tasks(api, project, truth, sizes, most=1) == [first["data"]["osal_key"]]
    said = terminal.run("sync", campaign.folder)
    assert f"tile {key} is left out" in said and "0 new tasks" in said
    answers = answers_of(campaign, "first")
    assert answers.state(unusable["data"]["osal_key"]) == REJECTED
    assert answers.state(empty["data"]["osal_key"]) == REVIEWED_EMPTY
    assert key not in {event.tile for event in answers.events}

    # The mistake is corrected in the tool, the rest is done, and all is in.
    correct = {
        "result": [region(i, n, b, *sizes[key]) for i, (n, b) in enumerate(boxes_in(truth, key, *sizes[key]))]
    }
    api._call("PATCH", f"/api/annotations/{wrong['id']}/", correct)
    label_open_tasks(api, project, truth, sizes)
    said = terminal.run("sync", campaign.folder, "--treat-skipped-as", "rejected")
    assert "next      osal campaign next" in said
    before = (campaign.folder / "first/rounds/init/query/imported.json").read_bytes()
    terminal.run("sync", campaign.folder)
    assert (campaign.folder / "first/rounds/init/query/imported.json").read_bytes() == before, (
        "again adds nothing"
    )
    for record in ("first", "test"):
        for event in answers_of(campaign, record).events:
            nuclei = boxes_in(truth, event.tile, *sizes[event.tile])
            if event.labels.boxes:
                assert event.seconds == pytest.approx(12 + 2.5 * len(nuclei), abs=0.1) or event.tile == key
                assert sorted(event.labels.classes) == sorted(name for name, _ in nuclei)
                for mine, (_, box) in zip(sorted(event.labels.boxes), sorted(nuclei, key=lambda n: n[1])):
                    assert mine == pytest.approx(box, abs=0.01)
            assert event.labels.annotator == EMAIL
    assert [
        p for p in Path(campaign.folder).rglob("*") if p.is_file() and token.encode() in p.read_bytes()
    ] == []
    assert json.loads((campaign.folder / "label-studio.json").read_text()) == {"url": url}


def answers_of(campaign, record):
    query = campaign.record(record).round_dir("init") / "query"
    return Answers.read(query, open_request(campaign.folder / record)[2].batch)
