"""NuCLS in Detectron2's catalog, on a small synthetic release."""

import subprocess
import sys

import pytest

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402

from osal_detectron2.core.errors import DataError  # noqa: E402
from osal_detectron2.data.nucls import CLASSES  # noqa: E402
from osal_detectron2.data.nucls_catalog import nucls_names, register_all_nucls  # noqa: E402
from osal_detectron2.data.nucls_prepare import prepare  # noqa: E402
from osal_detectron2.data.synthetic import make_release  # noqa: E402


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    make_release(root / "nucls", tiles=12, seed=0, size=96, workers=1)
    prepare(root / "nucls")
    return root


@pytest.fixture(autouse=True)
def catalog_as_it_was():
    """Leave the catalog pointing to the default folder, as other tests expect it."""
    yield
    register_all_nucls()


def test_every_combination_is_registered_and_loads(datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    register_all_nucls()
    assert len(nucls_names()) == 120
    for name in nucls_names():
        assert DatasetCatalog.get(name)


@pytest.mark.parametrize("setting, known", [("5_2", 5), ("4_3", 4), ("3_4", 3)])
def test_settings_of_table_1(datasets, setting, known):
    register_all_nucls(datasets / "nucls")
    name = f"nucls_{setting}_slide_fold2_train"
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == list(CLASSES[:known])
    assert metadata.unknown_classes == list(CLASSES[known:])
    assert metadata.evaluator_type == "open_set_coco"
    records = DatasetCatalog.get(name)
    annotations = [a for record in records for a in record["annotations"]]
    assert {a["category_id"] for a in annotations} <= set(range(known + 1))
    for a in annotations:
        index = CLASSES.index(a["category_name"])
        assert a["category_id"] == min(index, known)


def test_train_and_test_part_share_no_image_and_images_exist(datasets):
    register_all_nucls(datasets / "nucls")
    train, test = (DatasetCatalog.get(f"nucls_5_2_random_fold1_{part}") for part in ("train", "test"))
    assert not {r["image_key"] for r in train} & {r["image_key"] for r in test}
    assert len(train) + len(test) == 12
    assert all((datasets / "nucls" / "rgb" / r["image_key"]).samefile(r["file_name"]) for r in train)


def test_registering_again_with_another_root_replaces(datasets, tmp_path):
    register_all_nucls(tmp_path / "nowhere")
    register_all_nucls(datasets / "nucls")
    register_all_nucls(datasets / "nucls")
    assert len(DatasetCatalog.get("nucls_3_4_official_fold1_train")) > 0


def test_missing_files_say_what_to_run(tmp_path):
    register_all_nucls(tmp_path)  # registering reads nothing
    with pytest.raises(DataError, match="osal data nucls"):
        DatasetCatalog.get("nucls_5_2_random_fold1_train")


def test_broken_source_file_is_reported_on_use_not_on_import(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "source.json").write_text("{")
    register_all_nucls(tmp_path)
    (tmp_path / "annotations" / "random_fold1_train.json").write_text("{}")
    with pytest.raises(DataError, match="source.json"):
        DatasetCatalog.get("nucls_5_2_random_fold1_train")


def test_annotations_apart_from_the_images(datasets, tmp_path):
    prepare(datasets / "nucls", out=tmp_path)
    register_all_nucls(tmp_path)
    (record, *_) = DatasetCatalog.get("nucls_4_3_hospital_fold5_test")
    assert str(datasets) in record["file_name"]


def test_reader_and_renderer_need_no_torch():
    code = (
        "import sys, osal_detectron2.data.nucls_prepare, osal_detectron2.data.synthetic;"
        "assert not {'torch', 'detectron2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
