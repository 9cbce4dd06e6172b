"""Files come from other machines: one clear error that names file, place and remedy, nothing written, no traceback."""

import contextlib
import io
import json
import os
import random
import zipfile

import answering
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_round_trip import exported
from waiting_run import files

from osal_detectron2.core.errors import OSALError
from osal_detectron2.exchange.registry import FORMATS
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
        ("x.bin", b"\0\1\2\3", "is none of coco, label-studio, cvat"),
        ("x.zip", b"PK\x03\x04 and no more", "is no complete ZIP archive"),
    ],
)
def test_one_clear_error_and_nothing_written(run, tmp_path, name, content, words):
    path, before = tmp_path / name, files(run)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OSALError) as error:
        import_batch(run, path)
    assert words in str(error.value) and name in str(error.value)
    assert files(run) == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(run, tmp_path, encoding):
    for name, content in (("x.xml", box()), ("t.json", region()), ("plain.png.geojson", feature())):
        path = tmp_path / name
        path.write_bytes(content.encode(encoding))
        assert import_batch(run, path, dry_run=True).labelled == ("plain.png",), name


@pytest.mark.parametrize(
    "member", ["../out.xml", "/etc/out.xml", "a/../../out.xml", "C:\\out.xml", "a\\..\\out.xml"]
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


WORDS = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    10**400,
    "",
    "a",
    "\ud800",
    "../x",
    [],
    [[]],
    {},
    {"a": 1},
    "NaN",
    -0.5,
]


def mutate_json(value, rng):
    """One to three places of parsed JSON dropped, doubled or replaced."""
    for _ in range(rng.randint(1, 3)):
        node, places = value, []
        while isinstance(node, (dict, list)) and node:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            places.append((node, key))
            node = node[key]
        if not places:
            return value
        node, key = rng.choice(places)
        what = rng.choice(("drop", "double", "replace", "replace"))
        if what == "drop":
            del node[key]
        elif what == "double" and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = rng.choice(WORDS)
    return value


def mutate_bytes(content, rng):
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if not data:
            break
        at = rng.randrange(len(data))
        what = rng.choice(("flip", "cut", "repeat", "number", "tail"))
        if what == "flip":
            data[at] = rng.randrange(256)
        elif what == "cut":
            del data[at : at + rng.randint(1, 40)]
        elif what == "repeat":
            data[at:at] = data[at : at + rng.randint(1, 200)]
        elif what == "number":
            data[at : at + 1] = rng.choice(
                (b"NaN", b"1e999", b"-", b"9" * 50, b"\xff\xfe", b"<", b"&x;", b'"', b"]")
            )
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_tampered_with_never_ends_in_a_traceback(run, format, tmp_path):
    """OSAL_FUZZ=10000 for as many examples; 100 otherwise."""
    folder = exported(run, format)
    path = getattr(answering, format.replace("-", "_"), lambda place: place / "batch.json")(folder)
    members = [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
    members = [
        p
        for p in members
        if p.suffix in (".json", ".geojson", ".xml", ".txt", ".yaml") and "images" not in p.parts
    ]
    originals = {member: member.read_bytes() for member in members}
    before, archive = files(run), tmp_path / "export.zip"

    @settings(
        max_examples=int(os.environ.get("OSAL_FUZZ", "100")),
        deadline=None,
        derandomize="OSAL_FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**63))
    def tampered(seed):
        rng = random.Random(seed)
        if rng.random() < 0.1:  # the same in an archive
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as pack:
                for name, content in originals.items():
                    pack.writestr(name.relative_to(folder).as_posix(), content)
            archive.write_bytes(mutate_bytes(packed.getvalue(), rng))
            with contextlib.suppress(OSALError):
                import_batch(run, archive, dry_run=True)
            return
        member = rng.choice(members)
        content = originals[member]
        if member.suffix in (".json", ".geojson") and rng.random() < 0.7:
            member.write_text(json.dumps(mutate_json(json.loads(content), rng)))
        else:
            member.write_bytes(mutate_bytes(content, rng))
        try:
            options = {
                "skip_other_tiles": rng.random() < 0.5,
                "accept": ["names"] if rng.random() < 0.5 else [],
            }
            str(import_batch(run, path, dry_run=True, **options)).encode("utf-8", "backslashreplace")
        except OSALError as error:
            assert str(error).startswith(str(path)) or format in ("label-studio",), error
        finally:
            member.write_bytes(content)

    tampered()
    assert files(run) == before
