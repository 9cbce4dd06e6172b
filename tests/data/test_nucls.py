"""The reader and the preparation, on miniature releases written by hand."""

import json

import pytest
from PIL import Image
from programs import osal

from osal_detectron2.core.errors import DataError
from osal_detectron2.data.nucls import CLASSES, MAIN_CLASSES, RAW_CLASSES, parse_stem, read_release
from osal_detectron2.data.nucls_prepare import prepare

HEADER = (
    ",raw_classification,main_classification,super_classification,type,xmin,ymin,xmax,ymax,coords_x,coords_y"
)
STEM = (
    "TCGA-{hospital}-A0X{n}-DX1_id-5ea40b25ddda5f83989991f{n}_left-32501_top-21485_bottom-21806_right-32812"
)


def row(index=0, raw="tumor", main="tumor_nonMitotic", kind="rectangle", box=(10, 20, 40, 60)):
    return f'{index},{raw},{main},tumor_any,{kind},{",".join(map(str, box))},"10,40,40,10","20,20,60,60"'


def add_tile(release, n=0, rows=None, hospital="AN", size=(100, 80), png=True, table=True, header=HEADER):
    stem = STEM.format(hospital=hospital, n=n)
    for folder in ("rgb", "csv"):
        (release / folder).mkdir(parents=True, exist_ok=True)
    if png:
        Image.new("RGB", size).save(release / "rgb" / f"{stem}.png")
    if table:
        text = "\n".join([header, *([row()] if rows is None else rows)]) + "\n"
        (release / "csv" / f"{stem}.csv").write_text(text)
    return stem


def test_one_tile_as_distributed(tmp_path):
    stem = add_tile(
        tmp_path, rows=[row(0, raw="correction_tumor"), row(1, kind="polyline", box=(0, 0, 9, 7))]
    )
    (tile,), report = read_release(tmp_path)
    assert (tile.file_name, tile.width, tile.height) == (f"{stem}.png", 100, 80)
    assert (tile.slide, tile.hospital) == ("TCGA-AN-A0X0-DX1", "AN")
    assert tile.region == {"left": 32501, "top": 21485, "bottom": 21806, "right": 32812}
    assert [n.bbox for n in tile.nuclei] == [(10, 20, 30, 40), (0, 0, 9, 7)]
    assert [n.raw_class for n in tile.nuclei] == ["tumor", "tumor"]
    assert report.per_class == {"tumor": 2}


def test_slide_and_hospital_need_a_tcga_like_name():
    assert parse_stem("TCGA-A2-A0CM-DX1_left-1_top-2")[:2] == ("TCGA-A2-A0CM-DX1", "A2")
    with pytest.raises(ValueError):
        parse_stem("tile7")


@pytest.mark.parametrize(
    "raw, main, expected",
    [
        ("tumor", "tumor_nonMitotic", "tumor"),
        ("mitotic_figure", "tumor_mitotic", "mitotic_figure"),
        ("fibroblast", "nonTILnonMQ_stromal", "stromal"),
        ("vascular_endothelium", "nonTILnonMQ_stromal", "stromal"),
        ("lymphocyte", "lymphocyte", "lymphocyte"),
        ("plasma_cell", "plasma_cell", "plasma_cell"),
        ("macrophage", "macrophage", "macrophage"),
        ("neutrophil", "other_nucleus", "other"),
        ("eosinophil", "other_nucleus", "other"),
        ("myoepithelium", "other_nucleus", "other"),
        ("ductal_epithelium", "other_nucleus", "other"),
    ],
)
def test_seven_classes_from_either_column(tmp_path, raw, main, expected):
    add_tile(tmp_path, rows=[row(raw=f"correction_{raw}", main=main)])
    for column in ("raw", "main"):
        (tile,), _ = read_release(tmp_path, classes_from=column)
        assert [n.class_name for n in tile.nuclei] == [expected]


def test_all_thirteen_raw_and_eight_main_names_are_known():
    assert len(RAW_CLASSES) == 13 and len(MAIN_CLASSES) == 8
    assert set(RAW_CLASSES.values()) == set(MAIN_CLASSES.values()) == {*CLASSES, "AMBIGUOUS"}


def test_columns_may_disagree_and_the_option_decides(tmp_path):
    add_tile(tmp_path, rows=[row(raw="lymphocyte", main="plasma_cell")])
    names = [read_release(tmp_path, classes_from=c)[0][0].nuclei[0].class_name for c in ("raw", "main")]
    assert names == ["lymphocyte", "plasma_cell"]


@pytest.mark.parametrize(
    "policy, expected", [("drop", []), ("other", [("other", False)] * 2), ("ignore", [("other", True)] * 2)]
)
def test_ambiguous_policies(tmp_path, policy, expected):
    rows = [row(0, raw="unlabeled", main="AMBIGUOUS"), row(1, raw="apoptotic_body", main="AMBIGUOUS")]
    add_tile(tmp_path, rows=rows)
    (tile,), report = read_release(tmp_path, ambiguous=policy)
    assert [(n.class_name, n.ignore) for n in tile.nuclei] == expected
    assert report.ambiguous == 2
    assert report.per_class["other"] == (2 if policy == "other" else 0)


def test_boxes_are_clipped_dropped_and_counted(tmp_path):
    boxes = [
        (-5, -3, 20, 30),
        (90, 70, 104, 95),
        (10, 10, 10, 30),
        (40, 30, 20, 50),
        (100, 0, 120, 9),
        (0, 0, 100, 80),
    ]
    add_tile(tmp_path, rows=[row(i, box=b) for i, b in enumerate(boxes)])
    (tile,), report = read_release(tmp_path)
    assert [n.bbox for n in tile.nuclei] == [(0, 0, 20, 30), (90, 70, 10, 10), (0, 0, 100, 80)]
    assert (report.clipped, report.degenerate, report.outside) == (2, 2, 1)
    assert "boxes dropped: 2 without area, 1 outside" in "\n".join(report.lines())


def test_unpaired_files_are_listed_and_empty_tiles_kept(tmp_path):
    add_tile(tmp_path, 1)
    add_tile(tmp_path, 2, rows=[])
    lonely_csv, lonely_png = add_tile(tmp_path, 3, png=False), add_tile(tmp_path, 4, table=False)
    (tmp_path / "rgb" / "._junk.png").write_bytes(b"mac")
    tiles, report = read_release(tmp_path)
    assert [len(t.nuclei) for t in tiles] == [1, 0]
    assert (report.tiles, report.empty_tiles) == (2, 1)
    assert (report.csv_without_png, report.png_without_csv) == ([lonely_csv], [lonely_png])
    assert lonely_csv in "\n".join(report.lines()) and lonely_png in "\n".join(report.lines())


@pytest.mark.parametrize(
    "bad, says",
    [
        (row(box=(1, 2, "", 4)), "xmax is ''"),
        (row(box=(1, "nan", 3, 4)), "ymin is 'nan'"),
        (row(box=("left", 2, 3, 4)), "xmin is 'left'"),
        (row(main="tumour"), "main_classification is 'tumour'"),
        ("2,tumor", "main_classification is ''"),
    ],
)
def test_bad_row_names_file_and_line_and_writes_nothing(tmp_path, capsys, bad, says):
    add_tile(tmp_path, 1)
    stem = add_tile(tmp_path, 2, rows=[row(), bad, row()])
    assert osal("data", "nucls", "--release", str(tmp_path), "--out", str(tmp_path / "out")) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert f"{stem}.csv, line 3: " in message and says in message
    assert not (tmp_path / "out").exists()


def test_missing_column_and_broken_image_name_the_file(tmp_path):
    stem = add_tile(tmp_path, header=HEADER.replace("ymax", "bottom"))
    with pytest.raises(DataError, match=rf"{stem}\.csv, line 1: no column ymax"):
        read_release(tmp_path)
    stem = add_tile(tmp_path)
    (tmp_path / "rgb" / f"{stem}.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=rf"{stem}\.png: cannot be read"):
        read_release(tmp_path)


def test_folder_that_is_no_release(tmp_path):
    with pytest.raises(DataError, match="rgb: no such folder"):
        read_release(tmp_path)


def test_prepare_writes_consistent_coco_beside_the_images(tmp_path, capsys):
    for n in range(10):
        add_tile(
            tmp_path, n, hospital="ABCDE"[n % 5] + "X", rows=[row(), row(main="lymphocyte", raw="lymphocyte")]
        )
    assert osal("data", "nucls", "--release", str(tmp_path)) == 0
    assert "10 tiles" in capsys.readouterr().out
    folder = tmp_path / "annotations"
    everything = json.loads((folder / "all.json").read_text())
    assert [c["name"] for c in everything["categories"]] == list(CLASSES)
    ids = {image["file_name"]: image["id"] for image in everything["images"]}
    for scheme in ("random", "slide", "hospital"):
        for k in range(1, 6):
            train, test = (
                json.loads((folder / f"{scheme}_fold{k}_{p}.json").read_text()) for p in ("train", "test")
            )
            assert {i["file_name"]: i["id"] for i in train["images"] + test["images"]} == ids
            assert len(train["annotations"]) + len(test["annotations"]) == 20
            assert {a["image_id"] for a in test["annotations"]} == {i["id"] for i in test["images"]}
    source = json.loads((folder / "source.json").read_text())
    assert (source["image_root"], source["classes_from"], source["ambiguous"]) == ("rgb", "main", "drop")
    assert not list(folder.glob(".writing-*"))


def test_prepare_elsewhere_records_where_the_images_are(tmp_path):
    add_tile(tmp_path / "release")
    report = prepare(tmp_path / "release", out=tmp_path / "out")
    source = json.loads((tmp_path / "out" / "annotations" / "source.json").read_text())
    assert source["image_root"] == str((tmp_path / "release" / "rgb").resolve())
    assert any("no folds by random" in note for note in report.notes)
    assert not (tmp_path / "release" / "annotations").exists()


def test_output_that_cannot_be_written_is_one_error_line(tmp_path, capsys):
    add_tile(tmp_path)
    (tmp_path / "annotations").write_text("a file where the folder should be")
    assert osal("data", "nucls", "--release", str(tmp_path)) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "annotations: cannot write" in message
    assert (tmp_path / "annotations").read_text() == "a file where the folder should be"


def test_preparing_again_gives_the_same_bytes(tmp_path):
    for n in range(6):
        add_tile(tmp_path, n)
    prepare(tmp_path)
    first = {p.name: p.read_bytes() for p in (tmp_path / "annotations").iterdir()}
    prepare(tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "annotations").iterdir()} == first
    prepare(tmp_path, seed=1)
    assert (tmp_path / "annotations" / "random_fold1_test.json").read_bytes() != first[
        "random_fold1_test.json"
    ]
