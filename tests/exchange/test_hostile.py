"""Files come from other machines: one clear error that names file, place and remedy, nothing written, no traceback."""

import json
import zipfile

import answering
import pytest
from test_round_trip import exported
from waiting_run import files

from osal_detectron2.core.errors import OSALError
from osal_detectron2.oracles.exchange import import_batch

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><{root}>&b;</{root}>'
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><{root}>&a;</{root}>'
BOX = '<annotations><image id="0" name="plain.png" width="{w}" height="53"><box label="{c}" xtl="{x}" ytl="1" xbr="9" ybr="9"/></image></annotations>'  # noqa: E501
TASK = '[{{"id": 7, "data": {{"osal_key": "plain.png"}}, "annotations": [{{"completed_by": 1, "result": [{0}]}}]}}]'
REGION = '{{"id": "r", "type": "rectanglelabels", "original_width": {w}, "original_height": 53, "value": {{"x": {x}, "y": 1, "width": 5, "height": 5, "rectanglelabels": {c}}}}}'  # noqa: E501
FEATURE = '{{"type": "FeatureCollection", "features": [{{"type": "Feature", "geometry": {g}, "properties": {{"classification": {c}}}}}]}}'  # noqa: E501
POLYGON = '{{"type": "Polygon", "coordinates": [[[{x}, 0], [9, 9], [0, 9], [{x}, 0]]]}}'
TUMOR = '{"name": "tumor"}'


def region(w="97", x="1", c='["tumor"]'):
    return TASK.format(REGION.format(w=w, x=x, c=c))


def feature(x="1", c=TUMOR, g=None):
    return FEATURE.format(g=g or POLYGON.format(x=x), c=c)


def coco(file_name="plain.png", bbox=(1, 1, 5, 5)):
    images = [{"id": 1, "file_name": file_name, "width": 97, "height": 53}]
    boxes = [{"id": 3, "image_id": 1, "category_id": 1, "bbox": bbox}]
    return json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "tumor"}]})


def box(w="97", x="1", c="tumor"):
    return BOX.format(w=w, x=x, c=c)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.xml", BOMB.replace("{root}", "annotations"), "no DTD and no entities"),
        ("x.xml", OUTSIDE.replace("{root}", "annotation"), "no DTD and no entities"),
        ("x.xml", box()[:60], "is not complete XML"),
        ("x.xml", '<?xml version="1.0" encoding="utf-99"?>' + box(), "it needs UTF-8"),
        ("x.xml", "<annotations><track/></annotations>", "CVAT for video"),
        ("x.xml", box(x="nan"), "image 0, box 1: xtl is 'nan', not a number"),
        ("x.xml", box(x="1e300"), "xtl is '1e300'"),
        ("x.xml", box(w="98"), "98.0 x 53.0 pixels, the tile is 97 x 53"),
        ("x.xml", box(c="mitosis"), "class 'mitosis' (1 annotations) is not of this run"),
        ("x.xml", box().replace("plain.png", "../../plain.jpg"), "../../plain.jpg like plain.png"),
        ("x.xml", box().replace("</annotations>", box()[13:]), "tile plain.png occurs twice"),
        ("x.xml", box().replace("<box ", '<box rotation="30" '), "is rotated"),
        ("x.xml", box().replace("<box ", "<mask "), "is no box, polygon or ellipse"),
        ("t.json", region(x="NaN"), "region r: x is 'nan', not a number"),
        ("t.json", region(x="1e999"), "x is 'inf'"),
        ("t.json", region(x="9" * 5000), "not complete JSON"),
        ("t.json", region(w="9" * 400), "original_width"),
        ("t.json", region(w="98"), "98.0 x 53.0 pixels"),
        ("t.json", region(c="[]"), "has 0 classes"),
        ("t.json", region(c='["tumor", "debris"]'), "has 2 classes"),
        ("t.json", region(x="200"), "outside the tile"),
        ("t.json", region()[:90], "is not complete JSON"),
        ("t.json", '[{"image": "plain.png", "label": []}]', "not JSON-MIN"),
        ("t.json", "[" * 100000, "nested too deep"),
        ("plain.png.geojson", feature(x="NaN"), "object 1: is no outline"),
        ("plain.png.geojson", feature(x="1e300"), "object 1: is no outline"),
        ("plain.png.geojson", feature(g='{"type": "Point", "coordinates": [1, 2]}'), "width and height"),
        ("plain.png.geojson", feature(g='{"type": "Polygon", "coordinates": []}'), "is no outline"),
        ("plain.png.geojson", feature(g="7"), "object 1: is no outline"),
        ("plain.png.geojson", feature(c="null"), "object 1: has no class"),
        ("tile.png.geojson", feature(), "may be slide 1/tile.png or slide 2/tile.png"),
        ("plain.png.geojson", feature().encode("utf-8") + b"\xff", "is not UTF-8 text"),
        ("coco.json", '{"images": [], "annotations": []}', "is not COCO JSON"),
        ("coco.json", coco(bbox=[10**400, 1, 5, 5]), "annotation 3 (tile plain.png): bbox is [1000"),
        (
            "coco.json",
            coco(bbox=[1] * 100_000),
            "1, 1], not [x, y, width, height]; correct it or export again",
        ),
        ("coco.json", coco(file_name="\x1b[2Jx.png"), "not of this batch: \\x1b[2Jx.png"),
        ("x.bin", b"\0\1\2\3", "is none of coco, label-studio, cvat"),
        ("x.zip", b"PK\x03\x04 and no more", "is no complete ZIP archive"),
    ],
)
def test_one_clear_error_and_nothing_written(run, tmp_path, name, content, words):
    path, before = tmp_path / name, files(run)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OSALError) as error:
        import_batch(run, path)
    assert words in str(error.value) and name in str(error.value) and len(str(error.value)) < 2000
    assert files(run) == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(run, tmp_path, encoding):
    for name, content in (("x.xml", box()), ("t.json", region()), ("plain.png.geojson", feature())):
        path = tmp_path / name
        path.write_bytes(content.encode(encoding))
        assert import_batch(run, path, dry_run=True).labelled == ("plain.png",), name


@pytest.mark.parametrize(
    "member",
    ["", "../out.xml", "a\x1b[2J.xml", "/etc/out.xml", "a/../../out.xml", "C:\\out.xml", "a\\..\\out.xml"],
)
def test_an_archive_whose_names_lead_out(run, tmp_path, member):
    path, before = tmp_path / "x.zip", sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), box())
    with pytest.raises(OSALError, match="leads out of the archive"):
        import_batch(run, path)
    path.unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tile_with_far_too_many_boxes(run, tmp_path):
    path = tmp_path / "plain.png.geojson"
    content = json.loads(feature())
    content["features"] *= 5001
    path.write_text(json.dumps(content))
    with pytest.raises(OSALError, match="tile plain.png: has 5001 boxes, more than 5000"):
        import_batch(run, path)


def test_an_archive_that_unpacks_to_far_too_much(run, tmp_path, monkeypatch):
    monkeypatch.setattr("osal_detectron2.exchange.files.MOST_BYTES", 1_000_000)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.xml", b" " * 1_000_001)
    with pytest.raises(OSALError, match="more than"):
        import_batch(run, path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 .5 .5 .1", "is no class with a box"),
        ("9 .5 .5 .1 .1", "class 9 is none of 0 to 3"),
        ("0 .5 nan .1 .1", "a value is 'nan'"),
        ("0 2 2 .1 .1", "outside the tile"),
        ("0 .5 .5 0 0", "width and height must be above 0"),
        ("x .5 .5 .1 .1", "a value is 'x'"),
    ],
)
def test_lines_of_yolo(run, line, words):
    folder = exported(run, "yolo")
    (folder / "labels/plain.txt").write_text(line + "\n")
    with pytest.raises(OSALError) as error:
        import_batch(run, folder)
    assert words in str(error.value) and "plain.txt, line 1" in str(error.value)
    (folder / "labels/plain.txt").write_text("")
    (folder / "classes.txt").unlink()
    assert import_batch(run, folder, dry_run=True).pending_keys  # data.yaml has the names, too
    (folder / "data.yaml").write_text("names: [a, *b]")
    with pytest.raises(OSALError, match="data.yaml: has no list of names"):
        import_batch(run, folder)


@pytest.mark.parametrize("format", ["cvat", "voc", "geojson"])
def test_a_missing_package_is_named_with_its_extra(run, monkeypatch, format):
    path = getattr(answering, format)(exported(run, format))
    for name in ("shapely", "defusedxml", "defusedxml.ElementTree"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(OSALError, match=r"pip install 'osal_detectron2\[formats\]'"):
        import_batch(run, path)
