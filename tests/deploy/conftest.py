"""One short real run of the miniature of tests/engine, and thin detectors with random weights on a stock backbone."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "engine"))
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def nuclei(tmp_path_factory):
    """A synthetic release of 12 tiles of 96 pixels."""
    from osal_detectron2.data.nucls_prepare import prepare
    from osal_detectron2.data.synthetic import make_release

    folder = tmp_path_factory.mktemp("nuclei")
    make_release(folder, tiles=12, seed=3, size=96, workers=1)
    if not (folder / "annotations").exists():
        prepare(folder)
    return folder


@pytest.fixture(scope="session")
def real_run(nuclei, tmp_path_factory):
    """The OUTPUT_DIR of a finished OSAL-ND run of two rounds."""
    from miniature import TINY, command

    folder = tmp_path_factory.mktemp("deploy")
    config = folder / "tiny.yaml"
    config.write_text(TINY.format(root=ROOT, data=nuclei))
    options = ("OSAL.BUDGET.NUM_QUERIES", 1, "OSAL.BUDGET.INIT_TILES", 3, "OSAL.BUDGET.QUERY_TILES", 2)
    done = command(config, "OUTPUT_DIR", folder / "run", *options)  # a process of its own: it logs to the run
    assert done.returncode == 0, done.stderr
    return folder / "run"


def stock_cfg(architecture: str = "OSALRCNN"):
    """A very thin R50-C4, all of whose parts but the heads are Detectron2's."""
    from detectron2.config import get_cfg

    from osal_detectron2 import add_osal_config

    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.NORM = "LN"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 60  # after NMS a different number of proposals in each picture
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16, 32]]
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetRes5ROIHeads"
    cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "OpenSetRes5ROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.TEST.DETECTIONS_PER_IMAGE = 30
    cfg.OSAL.AUXILIARY.SCORE_THRESH = 0.0
    cfg.OSAL.DATA.KNOWN_CLASSES = ["tumor", "lymphocyte", "stromal"]
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.INPUT.FORMAT = "RGB"
    return cfg


def fpn(cfg):
    """The same with an FPN and standard heads."""
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [48], [64], [96]]
    cfg.MODEL.ROI_HEADS.NAME = "OpenSetStandardROIHeads"
    cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "OpenSetStandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    return cfg


def save_run(cfg, folder: Path) -> Path:
    """A folder with the config and random weights, whose classifier is sure enough to tell images apart."""
    import torch
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if name.endswith("cls_score.weight"):
            torch.nn.init.normal_(parameter, std=1.0)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture(scope="session")
def stock_runs(tmp_path_factory):
    """{name: run folder} of each architecture on a stock backbone."""
    folder = tmp_path_factory.mktemp("stock")
    cfgs = {
        "osal_c4": stock_cfg(),
        "osal_fpn": fpn(stock_cfg()),
        "plain_fpn": fpn(stock_cfg("GeneralizedRCNN")),
        "loss_prediction": fpn(stock_cfg("LossPredictionRCNN")),
        "cascade": fpn(stock_cfg("GeneralizedRCNN")),
    }
    cfgs["cascade"].MODEL.ROI_HEADS.NAME = "OpenSetCascadeROIHeads"
    cfgs["cascade"].MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfgs["osal_c4"].OSAL.EVIDENCE.MODE = "branch"  # weights that plain Detectron2 has no place for
    cfgs["osal_c4"].OSAL.DATA.UNKNOWN_POLICY = "ignore"  # a proposal generator of ours
    cfgs["plain_fpn"].OSAL.DATA.UNKNOWN_POLICY = "classes"  # hidden ones
    cfgs["plain_fpn"].TEST.DETECTIONS_PER_IMAGE = 5000  # stock Detectron2 would fill 30 places with them
    cfgs["plain_fpn"].OSAL.DATA.UNKNOWN_CLASSES = ["plasma", "mitosis"]
    return {name: save_run(cfg, folder / name) for name, cfg in cfgs.items()}


@pytest.fixture
def make_run(tmp_path):
    """make_run(cfg) -> folder."""
    return lambda cfg: save_run(cfg, tmp_path / "run")


@pytest.fixture(name="stock_cfg")
def stock_cfg_fixture():
    return stock_cfg


@pytest.fixture(name="fpn")
def fpn_fixture():
    return fpn


@pytest.fixture(scope="session")
def pictures():
    """RGB pictures of different sizes, uint8."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size=(*size, 3), dtype=np.uint8) for size in ((96, 96), (80, 144))]
