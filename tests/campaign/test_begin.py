"""From a bare folder to the first two questions: what is asked, what is left out, and what a kill leaves."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scans import CLASSES, KNOWN, TILE

from osal_detectron2.campaign.folder import Campaign
from osal_detectron2.campaign.start import begin
from osal_detectron2.campaign.status import campaign_status
from osal_detectron2.campaign.training import awaited, must_wait, prepare
from osal_detectron2.campaign.verify import verify_campaign
from osal_detectron2.core.errors import ConfigError, DataError, LedgerError, OutputError
from osal_detectron2.core.labels import REJECTED, TileLabels
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.core.lock import RunLock
from osal_detectron2.core.round_files import write_metrics, write_selection
from osal_detectron2.core.store import sha256_file
from osal_detectron2.oracles.answers import Answer, Answers
from osal_detectron2.oracles.exchange import open_request

ROOT = Path(__file__).resolve().parents[2]


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def how_many_files(folder):
    """While somebody writes there: os.walk passes over what is gone by the time that it looks."""
    return sum(len(names) for _, _, names in os.walk(folder))


def asked(campaign, name):
    return campaign.record(name).selection("init")["selected"]


def answer(folder, *, annotator="anna", reject=()):
    """Label the open batch of a record: a known nucleus in each tile."""
    _, query, request = open_request(folder)
    labels = {k: TileLabels("labelled", [(5, 5, 14, 14)], ["tumor"], annotator) for k in request.tiles}
    labels |= {key: TileLabels(REJECTED, annotator=annotator) for key in reject}
    Answers.read(query, request.batch).and_then(Answer(k, v) for k, v in labels.items()).write(query, request)


def test_a_campaign_begins_from_a_bare_folder(campaign):
    first, test = asked(campaign, "first"), asked(campaign, "test")
    pool = {i["file_name"]: i for i in campaign.coco("pool.json")["images"]}
    slides = {pool[key]["group"] for key in pool}
    assert len(first) == len(set(first)) >= 4 and set(first) <= set(pool)
    assert {key.partition("_")[0] for key in test}.isdisjoint({name.partition(".")[0] for name in slides})
    assert campaign.left_out == {"without structure (glass)": 1, "like another tile": 1}
    assert len({key.partition("_")[0] for key in first}) == len(slides), "every slide is asked"
    assert all((campaign.tiles / key).is_file() for key in (*pool, *test))
    assert pool[first[0]]["origin"]["width"] == TILE
    text = campaign_status(campaign)
    assert "how good the detector is: the test tiles are not labelled" in text
    assert text.splitlines()[-1].startswith("next      osal campaign sync")
    assert verify_campaign(campaign.folder) == []


def test_the_seed_alone_decides_what_is_asked(settings, tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    a, b, c = (begin(f, settings(seed=s)) for f, s in zip(folders, (1, 1, 2)))
    assert asked(a, "first") == asked(b, "first") and asked(a, "test") == asked(b, "test")
    assert asked(a, "first") + asked(a, "test") != asked(c, "first") + asked(c, "test")


def test_the_same_call_again_changes_nothing_and_another_is_refused(campaign, settings, tmp_path):
    before = files(campaign.folder)
    begin(campaign.folder, settings())
    assert files(campaign.folder) == before
    with pytest.raises(LedgerError, match="seed 0 -> 3"):
        begin(campaign.folder, settings(seed=3))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        begin(tmp_path / "full", settings())
    with pytest.raises(ConfigError, match="'stroma' is not among"):
        begin(tmp_path / "other", settings(known=("stroma",)))
    with pytest.raises(DataError, match="no such folder"):
        begin(tmp_path / "other", settings(images=str(tmp_path / "nowhere")))
    assert not (tmp_path / "other").exists()
    with RunLock(campaign.folder), pytest.raises(LedgerError, match="already works"):
        prepare_with_lock(campaign)


def prepare_with_lock(campaign):
    with RunLock(campaign.folder):
        prepare(campaign)


def test_init_killed_at_any_instant_ends_as_one_that_was_not(campaign, scans, tmp_path):
    words = ["init", str(tmp_path / "killed"), "--images", str(scans), "--classes", ",".join(CLASSES)]
    words += ["--known", ",".join(KNOWN), "--minutes", "4", "--tile", str(TILE), "--nucleus-size", "10"]
    command = [sys.executable, "-m", "osal_detectron2", "campaign", *words]
    for part in (1, 10, 23):  # files that are there when it is killed: among the tiles, and in a record
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None and how_many_files(tmp_path / "killed") < part + 2:
            time.sleep(0.002)
        process.kill()
        process.wait()
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    mine, other = files(tmp_path / "killed"), files(campaign.folder)
    places = ("query/request.json", "query/images.txt", "query/README.txt")  # which name the folder
    assert mine.keys() == other.keys()
    assert [name for name in mine if mine[name] != other[name] and not name.endswith(places)] == []


def test_labels_become_the_record_and_the_config_follows_from_them(campaign):
    assert must_wait(campaign) and prepare(campaign) == []
    answer(campaign.folder / "first", reject=asked(campaign, "first")[:1])
    said = prepare(campaign)
    assert "first tiles" in said[0] and "config.yaml" in said[1]
    text = (campaign.folder / "config.yaml").read_text()
    assert "QUERY: 240.0" in text and 'NAME: "human"' in text and "SIZES: [[14]" in text
    assert must_wait(campaign), "a round that ends before the test tiles are labelled is never measured"
    assert not must_wait(campaign, unmeasured=True)
    answer(campaign.folder / "test")
    assert "next      osal campaign next" in campaign_status(campaign)
    assert len(prepare(campaign)) == 1 and prepare(campaign) == [] and not must_wait(campaign)
    states = campaign.record("first").labels().values()
    assert sum(tile.state == REJECTED for tile in states) == 1 and {tile.annotator for tile in states} == {
        "anna"
    }
    assert "unclear " not in campaign_status(campaign)
    assert verify_campaign(campaign.folder) == []
    labels = campaign.folder / "test/rounds/init/labels.json"
    labels.write_text(labels.read_text().replace("tumor", "plasma"))
    assert "changed after the round was committed" in verify_campaign(campaign.folder)[0]


def test_tiles_that_are_labelled_already_begin_it(settings, scans, tmp_path):
    truth = json.loads((scans.parent / "truth.json").read_text())
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] == 2]
    given = tmp_path / "given.json"
    given.write_text(json.dumps(truth))
    campaign = begin(tmp_path / "lung", settings(labelled=str(given)))
    first = campaign.record("first")
    assert first.last_committed == "init" and {k.partition("_")[0] for k in first.labels()} == {"slide2"}
    nuclei = sum(len(tile.boxes) for tile in first.labels().values())
    assert nuclei == len(truth["annotations"]), "each nucleus in one tile"
    assert not any(key.startswith("slide2") for key in asked(campaign, "test"))
    assert [f.name for f in awaited(campaign)] == ["test"], "no first batch is asked for"


def test_slides_are_told_by_a_rule_or_a_table(settings, scans, tmp_path):
    ruled = begin(tmp_path / "rule", settings(slide_rule=r"slide(\d)"))
    assert {i["group"] for i in ruled.coco("pool.json")["images"]} < set("01234")
    with pytest.raises(DataError, match=r"does not match slide2.png \(3 in all\)"):
        begin(tmp_path / "other", settings(slide_rule="slide([01])"))
    table = tmp_path / "slides.csv"
    table.write_text("image,slide\n" + "".join(f"slide{n}.png,S{n // 3}\n" for n in range(5)))
    campaign = begin(tmp_path / "table", settings(slides=str(table)))
    pool = {i["group"] for i in campaign.coco("pool.json")["images"]}
    test = {i["group"] for i in campaign.coco("test.json")["images"]}
    assert pool | test == {"S0", "S1"} and not pool & test
    table.write_text("image,slide\nslide0.png,S0\n")
    with pytest.raises(DataError, match="no row for slide1.png"):
        begin(tmp_path / "short", settings(slides=str(table)))


def test_one_slide_alone_is_said_to_measure_too_well(settings, scans, tmp_path):
    (tmp_path / "one").mkdir()
    for number in range(3):
        shutil.copy(scans / f"slide{number}.png", tmp_path / "one")
    campaign = begin(tmp_path / "lung", settings(images=str(tmp_path / "one"), slide_rule="slide"))
    assert not campaign.apart and "will look better than on a new slide" in campaign_status(campaign)
    pool = {i["file_name"] for i in campaign.coco("pool.json")["images"]}
    assert pool.isdisjoint(asked(campaign, "test"))


def test_a_changed_list_of_tiles_is_refused(campaign):
    pool = campaign.folder / "pool.json"
    pool.write_text(pool.read_text().replace("128", "129", 1))
    with pytest.raises(LedgerError, match=r"pool.json: changed since the campaign began"):
        Campaign.open(campaign.folder)
    assert "pool.json" in verify_campaign(campaign.folder)[0]


def test_annotators_who_disagree_are_settled_before_anything_else(campaign):
    answer(campaign.folder / "first")
    answer(campaign.folder / "test")
    _, query, request = open_request(campaign.folder / "first")
    other = Answer(next(iter(request.tiles)), TileLabels(REJECTED, annotator="ben"))
    Answers.read(query, request.batch).and_then([other]).write(query, request)
    last = campaign_status(campaign).splitlines()[-1]
    assert "osal run prefer" in last and "first NAME" in last and must_wait(campaign)


def test_a_training_that_began_or_was_measured_elsewhere_is_found(campaign):
    for name in ("first", "test"):
        answer(campaign.folder / name)
    prepare(campaign)
    first, keys = campaign.record("first"), asked(campaign, "first")
    pool = first.header["pool"]
    header = {"strategy": "random", "seed": 0, "known_classes": KNOWN, "config": {}, "versions": {}}

    def run_with(labels, **metrics):
        shutil.rmtree(campaign.run, ignore_errors=True)
        run = Ledger.create(campaign.run, pool=pool, plan=[len(keys)], dataset_sha256="", **header)
        for number, chosen in (("init", keys), (0, [])):
            content = {"strategy": "random", "budget": len(chosen), "candidates": 0, "reasons": {}}
            write_selection(run.round_dir(number), round_index=number, selected=chosen, **content)
            if number == 0:
                write_metrics(run.round_dir(0), {"bbox": {"mAP50": 1.0}, **metrics})
            run.commit(number, selected=chosen, labels=labels if chosen else {})
        return verify_campaign(campaign.folder)

    committed = sha256_file(campaign.folder / "test/rounds/init/commit.json")
    assert run_with(first.labels(), test_record=committed) == []
    assert "measured on other labels" in run_with(first.labels(), test_record="0" * 64)[0]
    assert "measured on other labels" in run_with(first.labels())[0]
    other = {key: TileLabels("labelled", [(1, 1, 9, 9)], ["tumor"], "anna") for key in keys}
    assert "its labels are not those of" in run_with(other, test_record=committed)[0]
