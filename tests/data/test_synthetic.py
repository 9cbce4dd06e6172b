"""The synthetic set: in the real layout, the same for the same seed, proportioned as in the paper."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from programs import osal

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.data.nucls import CLASSES, parse_stem, read_release
from osal_detectron2.data.nucls_splits import official_splits
from osal_detectron2.data.synthetic import make_release
from osal_detectron2.data.synthetic.classes import KINDS, PAPER_COUNTS
from osal_detectron2.data.synthetic.composition import fit_margins
from osal_detectron2.data.synthetic.release import plan_tiles

TILES = 24


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "nucls"
    assert make_release(out, tiles=TILES, seed=3, workers=1)
    return out


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.*")) if p.is_file()}


def test_reader_takes_it_as_it_takes_the_real_release(release):
    tiles, report = read_release(release)
    assert len(tiles) == TILES and not report.csv_without_png and not report.png_without_csv
    assert report.clipped > 0 and report.ambiguous > 0
    assert len({tile.hospital for tile in tiles}) >= 5
    assert len({(tile.width, tile.height) for tile in tiles}) > TILES // 2
    raw, _ = read_release(release, classes_from="raw")
    assert [t.nuclei for t in raw] == [t.nuclei for t in tiles]


def test_it_has_the_quirks_of_the_release(release):
    rows = [row for path in (release / "csv").iterdir() for row in csv.DictReader(path.open())]
    assert any(row["raw_classification"].startswith("correction_") for row in rows)
    assert {row["type"] for row in rows} == {"rectangle", "polyline"}
    assert any(int(row["xmin"]) < 0 or int(row["ymin"]) < 0 for row in rows)
    assert all("," in row["coords_x"] for row in rows)


def test_official_folds_part_hospitals_and_cover_all(release):
    tiles, _ = read_release(release)
    splits = official_splits(tiles, release)
    assert sorted(splits) == [1, 2, 3, 4, 5, 999]
    for k in range(1, 6):
        train, test = splits[k]
        assert len(train) + len(test) == TILES
        assert not {t.hospital for t in train} & {t.hospital for t in test}
    assert sorted(t.file_name for k in range(1, 6) for t in splits[k][1]) == [t.file_name for t in tiles]


def test_same_seed_same_bytes_whatever_the_workers(release, tmp_path):
    make_release(tmp_path / "again", tiles=TILES, seed=3, workers=2)
    again = contents(tmp_path / "again")
    assert again == contents(release)
    make_release(tmp_path / "other", tiles=TILES, seed=4, workers=1)
    assert not set(contents(tmp_path / "other" / "rgb")) & set(contents(release / "rgb"))


def test_class_totals_are_the_papers():
    counts = np.array([plan.counts for plan in plan_tiles(tiles=300, seed=0, size=256)])
    assert tuple(PAPER_COUNTS) == CLASSES
    assert np.abs(counts.sum(axis=0) / np.array(list(PAPER_COUNTS.values())) - 1).max() < 0.1


def test_tiles_differ_strongly_in_what_they_hold():
    plans = plan_tiles(tiles=300, seed=0, size=256)
    counts = np.array([plan.counts for plan in plans])
    total = counts.sum(axis=1)
    share = counts / np.maximum(total, 1)[:, None]
    assert (total <= 5).sum() >= 10 and total.max() > 70
    for name, least in (("tumor", 80), ("lymphocyte", 15), ("stromal", 25), ("plasma_cell", 15)):
        assert (share[:, CLASSES.index(name)] > 0.5).sum() >= least, name
    assert (share[:, CLASSES.index("macrophage")] > 0.2).sum() >= 5


def test_boxes_enclose_dark_nuclei_of_the_described_sizes(release):
    tiles, _ = read_release(release)
    size, inside, outside = {name: [] for name in CLASSES}, [], []
    for tile in tiles:
        green = np.asarray(Image.open(release / "rgb" / tile.file_name).convert("RGB"))[..., 1].astype(float)
        for nucleus in tile.nuclei:
            x, y, w, h = nucleus.bbox
            if nucleus.class_name == "lymphocyte" and min(w, h) > 8:
                cx, cy = int(x + w / 2), int(y + h / 2)
                inside.append(green[cy - 2 : cy + 3, cx - 2 : cx + 3].mean())
                outside.append(np.median(green))
            if 0 < x and 0 < y and x + w < tile.width and y + h < tile.height:
                size[nucleus.class_name].append(np.sqrt(w * h))
    assert np.mean(np.array(inside) < np.array(outside) - 20) > 0.95
    median = {name: np.median(values) for name, values in size.items() if len(values) > 5}
    assert median["lymphocyte"] < 0.7 * median["tumor"]
    assert median["plasma_cell"] < 0.75 * median["tumor"]
    assert np.std(size["tumor"]) > 2 * np.std(size["lymphocyte"])


def test_every_raw_class_of_the_release_can_be_drawn():
    assert len(KINDS) == 13


def test_margins_are_met():
    rows, columns = np.array([10.0, 2.0, 3.0]), np.array([6.0, 9.0])
    fitted = fit_margins(np.array([[1.0, 2.0], [5.0, 1.0], [1.0, 1.0]]), rows=rows, columns=columns)
    assert np.allclose(fitted.sum(axis=0), columns) and np.allclose(fitted.sum(axis=1), rows)
    assert (fitted > 0).all()


def test_tool_makes_prepares_and_then_leaves_alone(tmp_path, capsys):
    out = tmp_path / "set"
    command = ["--out", str(out), "--tiles", "10", "--size", "96", "--workers", "1"]
    assert osal("data", "synthetic", *command) == 0
    assert json.loads((out / "annotations" / "random_fold1_test.json").read_text())["images"]
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert osal("data", "synthetic", *command) == 0
    assert "nothing rendered" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == stamps
    next((out / "rgb").iterdir()).unlink()  # incomplete: rendered again
    assert osal("data", "synthetic", *command) == 0 and len(list((out / "rgb").iterdir())) == 10
    assert osal("data", "synthetic", *command, "--seed", "1") == 0
    assert len(list((out / "rgb").iterdir())) == len(list((out / "csv").iterdir())) == 10


def test_real_images_are_never_overwritten(tmp_path):
    (tmp_path / "rgb").mkdir()
    real = tmp_path / "rgb" / "TCGA-A1-A0SK-DX1_id-1.png"
    real.write_bytes(b"real")
    with pytest.raises(DataError, match="not synthetic"):
        make_release(tmp_path, tiles=10)
    assert real.read_bytes() == b"real" and list(tmp_path.iterdir()) == [tmp_path / "rgb"]


@pytest.mark.parametrize("parameters", [{"tiles": 9}, {"size": 10}])
def test_parameters_that_cannot_work(tmp_path, parameters):
    with pytest.raises(ConfigError):
        make_release(tmp_path / "x", **parameters)
    assert not (tmp_path / "x").exists()


def test_slide_names_are_unique_and_tcga_like():
    slides = {plan.stem.split("_id-")[0] for plan in plan_tiles(tiles=300, seed=0, size=256)}
    assert len(slides) == 50
    assert all(parse_stem(slide)[1] == slide.split("-")[1] for slide in slides)
