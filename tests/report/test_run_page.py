import base64
import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from drawn_run import ANNA, BEN, FIRST, HOSTILE, POOL, QUERY, make_run, write_tiles
from PIL import Image
from well_formed import Checked

from osal_detectron2.core.errors import OSALError
from osal_detectron2.evaluation.palette import CLASS_COLORS, LINE_COLORS, contrast, readable
from osal_detectron2.report import style
from osal_detectron2.report.html import text
from osal_detectron2.report.nuclei import least_certain
from osal_detectron2.report.pictures import APPEARANCE, MOST_BYTES, SIDE, Pictures, data_uri
from osal_detectron2.report.pool_map import embed
from osal_detectron2.report.record import RunRecord
from osal_detectron2.report.run_page import REPORT, RunPage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(the run's folder, the folder of its images)"""
    folder = tmp_path_factory.mktemp("report")
    images = write_tiles(folder / "images")
    run = make_run(folder / "run", images=images)
    RunPage(run).write()
    return run, images


@pytest.fixture(scope="module")
def page(made):
    return (made[0] / REPORT).read_bytes().decode()


@pytest.fixture(scope="module")
def checked(page):
    return Checked(page)


@pytest.fixture
def moved(made, tmp_path):
    """A copy of the run that does not find its images."""
    run = tmp_path / "copy"
    shutil.copytree(made[0], run)
    (run / "run.yaml").unlink()
    (run / APPEARANCE).unlink()
    return run


def test_the_page_is_well_formed_and_leads_nowhere_else(checked):
    assert checked.faults == []
    assert {"main", "nav", "header", "caption", "summary"} <= {tag for tag, _ in checked.elements}
    assert all("scope" in attributes for attributes in checked.of("th"))
    assert len(checked.of("caption")) == len(checked.of("table"))
    skip = next(a for a in checked.of("a"))
    assert skip == {"href": "#content", "class": "skip"}, "the first thing that Tab reaches"
    levels = [int(tag[1]) for tag, _ in checked.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:])), "no level of headings is left out"


def test_names_out_of_files_are_text(checked):
    assert "script" not in {tag for tag, _ in checked.elements} and checked.of("img") == []
    said = checked.text()
    for name in (HOSTILE, BEN, POOL[0], "plasma & <b>co</b>", "rank 1 of <20>"):
        assert name in said
    policy = next(
        a["content"] for a in checked.of("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;"), (
        "should one get through, it could do nothing"
    )


def test_it_says_all_that_a_reader_asks(checked):
    said = checked.text()
    for words in (
        "44.2 %",  # mAP50
        "purity",
        "score that ranks the tiles 0.25",
        "Query of round 1, 2 tiles They wait for their labels.",
        "first 12 of 20 tiles",
        "40 tiles to choose from and the 26 that were asked for",
        f"{ANNA} and {BEN} 3 9 + 9 9 1.000 0.889",
        "Tiles to discuss (1)",
        "lymphocyte, score 0.31",
        "hash of its commit",
        "reviewed empty",
        f"{ANNA} 24 66 20 11.8 38",  # tiles and nuclei that count, timed tiles, minutes, median
        "1.0 (assumed)",
    ):
        assert words in said, words


def test_crops_say_what_people_saw_there(made):
    record = RunRecord.read(made[0])
    labelled = replace(record, queries=record.queries[:-1])
    said = Checked(f"<!DOCTYPE html>{text(least_certain(labelled, Pictures(made[0])))}")
    assert said.faults == [] and len(said.of("image")) == 24
    shown = re.findall(r"lymphocyte, score (\S+) labelled: no nucleus here", said.text())
    assert shown == sorted(shown) and shown[0] == "0.31", "the least certain first"
    assert f"{HOSTILE}, score 0.91; looks unknown labelled: {HOSTILE}" in said.text()


def test_the_same_run_gives_the_same_bytes_also_from_what_was_seen_before(made, page):
    run, images = made
    assert RunPage(run).html.decode() == page
    assert RunPage(run, files={key: str(images / key) for key in POOL}).html.decode() == page


def test_pictures_are_bounded_however_large_a_query_is(checked):
    pictures = [a["href"] for a in checked.of("image")]
    assert len(pictures) <= len(FIRST) + 12 + 2 + 24 and len(QUERY) == 20
    assert len(checked.of("use")) == 14, "the second picture of a tile is the first one again"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 700, 3), dtype=np.uint8))
    for uri in (*pictures, data_uri(noise)):
        data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
        assert len(data) <= MOST_BYTES and max(Image.open(io.BytesIO(data)).size) <= SIDE


def test_without_the_images_there_are_boxes_and_words(moved, made):
    said = Checked(RunPage(moved).html.decode())
    assert said.faults == [] and said.of("image") == []
    assert "The images of 2 of these tiles were not found" in said.text() and "There is no map" in said.text()
    assert len(said.of("article")) == 4 + 12 + 2
    page = RunPage(moved, root=made[1])
    assert page.html == (made[0] / REPORT).read_bytes(), "--image-root says where they are now"
    page.write()
    assert RunPage(moved).html == page.html, "and is remembered"


def test_a_broken_image_counts_as_none(moved, tmp_path):
    images = write_tiles(tmp_path / "images")
    (images / QUERY[0]).write_bytes(b"no image")
    assert "The images of 1 of these tiles" in Checked(RunPage(moved, root=images).html.decode()).text()


@pytest.mark.parametrize(
    "name", ["run.json", "rounds/000/labels.json", "rounds/000/detections.json", "rounds/001/metrics.json"]
)
def test_a_damaged_run_is_one_error_and_nothing_is_written(moved, name):
    (moved / REPORT).unlink()
    content = '{"schema": "osal-detections/1", "tiles": {"a": {}}}' if "detections" in name else "{"
    (moved / name).write_text(content)
    with pytest.raises(OSALError, match=name.split("/")[-1]):
        RunPage(moved)
    assert not (moved / REPORT).exists() and not (moved / APPEARANCE).exists()


def test_without_a_test_set_it_says_what_it_cannot_say(tmp_path):
    said = Checked(RunPage(make_run(tmp_path / "run", test_set=False)).html.decode()).text()
    assert "Nobody knows how good the detector is" in said and "There are no figures for this yet." in said


def test_the_map_has_the_principal_axes_and_no_sign_left_to_chance():
    random = np.random.default_rng(0)
    plane = random.normal(size=(50, 2)) * [3.0, 1.0]
    places, shares = embed(plane @ np.array([[1.0, -2.0, 0.5, 0], [0, 0, 0, 1.0]]), plane @ np.eye(2, 4))
    assert places.shape == (50, 2)
    features = plane @ np.array([[1.0, 1.0, 0.2], [-1.0, 1.0, 0.1]])
    places, shares = embed(features, features)
    again, _ = embed(features[::-1], features[::-1])
    assert np.allclose(again[::-1], places) and sum(shares) == pytest.approx(1) and shares[0] > shares[1]
    alone, shares = embed(np.ones((3, 4)), np.ones((3, 4)))
    assert np.isfinite(alone).all() and np.isfinite(shares).all(), "tiles that all look the same"


def test_colours_can_be_told_from_their_ground():
    for scheme in re.findall(r":root\{([^}]*)\}", style.CSS):
        named = {k: "#" + "".join(c * (2 if len(v) == 4 else 1) for c in v[1:]) for k, v in
                 re.findall(r"--(\w+):(#\w+)", scheme)}  # fmt: skip
        for ground in ("ground", "card", "note"):
            for words in ("ink", "faint", "link"):
                if (ground, words) not in (("note", "faint"), ("note", "link")):
                    assert contrast(named[words], named[ground]) >= 4.5, (ground, words)
    for ground in (style.LIGHT, style.DARK):
        assert all(contrast(readable(c, ground), ground) >= 3 for c in (*LINE_COLORS, *CLASS_COLORS))
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
