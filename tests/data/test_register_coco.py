"""COCO files under Detectron2's catalogs of data sets, by name or by config."""

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from miniature_set import KNOWN, sound, write_set

from osal_detectron2.config import add_osal_config
from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.data.coco import load_open_set_coco, register_from_config, register_open_set_coco


@pytest.fixture
def catalog_name():
    name = "osal_test_coco"
    yield name
    for registered in (name, "osal_train", "osal_test"):
        if registered in DatasetCatalog.list():
            DatasetCatalog.remove(registered)
        if registered in MetadataCatalog.list():
            MetadataCatalog.remove(registered)


def test_registering_again_replaces_loader_and_metadata(tmp_path, catalog_name):
    path = write_set(tmp_path, sound())
    for _ in range(2):  # identical arguments: harmless
        register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    metadata = MetadataCatalog.get(catalog_name)
    assert metadata.thing_classes == metadata.known_classes == KNOWN
    assert metadata.unknown_classes == ["stroma"] and metadata.evaluator_type == "open_set_coco"
    assert (metadata.json_file, metadata.image_root) == (path, str(tmp_path))

    other = sound()
    other["images"] = other["images"][1:]
    register_open_set_coco(catalog_name, write_set(tmp_path, other, "other.json"), str(tmp_path), ["stroma"])
    records = DatasetCatalog.get(catalog_name)
    assert [record["image_key"] for record in records] == ["a.png"]
    assert [entry["category_id"] for entry in records[0]["annotations"]] == [1, 0, 1]
    metadata = MetadataCatalog.get(catalog_name)
    assert metadata.thing_classes == ["stroma"] and metadata.unknown_classes == ["lymphocyte", "tumor"]


def test_registration_is_lazy_and_follows_the_file(tmp_path, catalog_name):
    path = str(tmp_path / "later.json")
    register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    with pytest.raises(DataError, match="no such file"):
        DatasetCatalog.get(catalog_name)
    data = sound()
    write_set(tmp_path, data, "later.json")
    assert len(DatasetCatalog.get(catalog_name)) == 2
    assert MetadataCatalog.get(catalog_name).unknown_classes == ["stroma"]
    data["categories"].append({"id": 40, "name": "debris"})
    write_set(tmp_path, data, "later.json")
    DatasetCatalog.get(catalog_name)
    assert MetadataCatalog.get(catalog_name).unknown_classes == ["stroma", "debris"]


def test_a_registered_set_without_its_images_fails_at_once(tmp_path, catalog_name):
    path = write_set(tmp_path, sound())
    (tmp_path / "b.png").unlink()
    register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    with pytest.raises(DataError, match="1 of 2 images are not in .* first b.png"):
        DatasetCatalog.get(catalog_name)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_open_set_coco(path, str(tmp_path / "nowhere"), KNOWN)


def config():
    cfg = get_cfg()
    add_osal_config(cfg)
    return cfg


def test_register_from_config_alone(tmp_path, catalog_name):
    cfg = config()
    cfg.OSAL.DATA.TRAIN_JSON = cfg.OSAL.DATA.TEST_JSON = write_set(tmp_path, sound())
    cfg.OSAL.DATA.TEST_IMAGE_ROOT = str(tmp_path)
    with pytest.raises(ConfigError, match="KNOWN_CLASSES is empty"):
        register_from_config(cfg)
    cfg.OSAL.DATA.KNOWN_CLASSES = KNOWN
    before = cfg.dump()
    assert register_from_config(cfg) == ("osal_train", "osal_test")
    assert cfg.dump() == before
    assert len(DatasetCatalog.get("osal_train")) == len(DatasetCatalog.get("osal_test")) == 2
    cfg.OSAL.DATA.TEST_JSON, cfg.OSAL.DATA.TRAIN_JSON = "", cfg.OSAL.DATA.TEST_JSON
    assert register_from_config(cfg) == ("osal_train", None)
    cfg.OSAL.DATA.TEST_JSON, cfg.OSAL.DATA.TRAIN_JSON = cfg.OSAL.DATA.TRAIN_JSON, ""
    with pytest.raises(ConfigError, match="OSAL.DATA.TRAIN_JSON is empty"):
        register_from_config(cfg)
    cfg.OSAL.DATA.TRAIN_JSON = str(tmp_path / "absent.json")
    with pytest.raises(DataError, match="absent.json"):
        register_from_config(cfg)


def test_register_from_config_with_registered_names(tmp_path, catalog_name):
    cfg = config()
    with pytest.raises(ConfigError, match="DATASETS.TRAIN must name one"):
        register_from_config(cfg)
    path = write_set(tmp_path, sound())
    register_open_set_coco(catalog_name, path, str(tmp_path), KNOWN)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (catalog_name,), ("nowhere_registered",)
    with pytest.raises(ConfigError, match="DATASETS.TEST names nowhere_registered"):
        register_from_config(cfg)
    cfg.DATASETS.TEST = (catalog_name,)
    assert register_from_config(cfg) == (catalog_name, catalog_name)
    register_open_set_coco("osal_test", path, str(tmp_path), KNOWN[::-1])
    cfg.DATASETS.TEST = ("osal_test",)
    with pytest.raises(ConfigError, match="differ in their known classes"):
        register_from_config(cfg)
