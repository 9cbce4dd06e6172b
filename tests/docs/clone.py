"""A folder that looks like a clone of the repository to a page's commands, but whose configs and data are miniatures.

Commands run in it as they are written. What is small is the world: `configs/` holds files of the same names that start
from the real ones and end with a tiny detector on a CPU, `datasets/` and the folders of images hold a few drawn tiles.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import yaml

from osal_detectron2.data.nucls_prepare import prepare
from osal_detectron2.data.synthetic import make_release

ROOT = Path(__file__).resolve().parents[2]
LINKED = (
    "tools",
    "tests",
    "osal_detectron2",
    "requirements",
    "pyproject.toml",
    "setup.py",
    "README.md",
)

TINY = """
_BASE_: "{real}"
MODEL:
  DEVICE: "cpu"
  WEIGHTS: ""
  BACKBONE: {{NAME: "build_torchvision_fpn_backbone", FREEZE_AT: 0}}
  TORCHVISION: {{NAME: "shufflenet_v2_x0_5", NORM: "BN", WEIGHTS: ""}}
  FPN: {{OUT_CHANNELS: 32}}
  RPN: {{PRE_NMS_TOPK_TRAIN: 50, PRE_NMS_TOPK_TEST: 50, POST_NMS_TOPK_TRAIN: 20, POST_NMS_TOPK_TEST: 20}}
  ROI_HEADS: {{BATCH_SIZE_PER_IMAGE: 16, SCORE_THRESH_TEST: 0.0}}
  ROI_BOX_HEAD: {{FC_DIM: 16, POOLER_RESOLUTION: 3}}
INPUT: {{MIN_SIZE_TRAIN: [0], MIN_SIZE_TEST: 0}}
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 2, WARMUP_ITERS: 0, BASE_LR: 0.01, CHECKPOINT_PERIOD: 3}}
TEST: {{DETECTIONS_PER_IMAGE: 20}}
OSAL:
  BUDGET: {{INIT_TILES: 3, QUERY_TILES: 2, NUM_QUERIES: 1}}
  SCHEDULE: {{EPOCHS: 0.0, MIN_ITERS: 2}}
  PROTOTYPE: {{WARMUP_ITERS: 1}}
  AUXILIARY: {{SCORE_THRESH: 0.0}}
  EVAL: {{GALLERY_TILES: 2}}
"""

LAZY = '''
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock

_cfg = LazyConfig.load("{real}")


def _shrink(node):
    """The widths, the depth of backbones and the numbers of proposals, wherever they stand."""
    if not hasattr(node, "keys"):
        for part in node if type(node).__name__ == "ListConfig" else ():
            _shrink(part)
        return
    for key in node:
        if key in _SMALL:
            node[key] = _SMALL[key]
        elif key in ("fc_dims", "conv_dims"):
            node[key] = [width if width < 0 else 32 for width in node[key]]
        elif key == "input_shape":
            node[key] = ShapeSpec(channels=32, height=node[key].height, width=node[key].width)
        elif key == "head":
            node[key].in_channels = 32
        elif key == "bottom_up":
            node[key].stem.out_channels = 8
            node[key].stages = [
                L(ResNet.make_stage)(
                    block_class=BasicBlock, num_blocks=1, stride=min(_n, 2), in_channels=2 ** (_n + 2),
                    out_channels=2 ** (_n + 3), norm="BN",
                )
                for _n in (1, 2, 3, 4)
            ]
        elif key == "net":
            node[key].update(img_size=64, embed_dim=32, depth=2, num_heads=2, window_block_indexes=[0])
        else:
            _shrink(node[key])


_SMALL = dict(
    pre_nms_topk=[20, 20], post_nms_topk=[20, 20], batch_size_per_image=16, feature_dim=32, out_channels=32,
    square_pad=64, short_edge_length=64, max_size=64,
)
for _part in ("model", "dataloader"):
    _shrink(_cfg[_part])
_cfg.train.device = "cpu"
_cfg.train.checkpointer.period = 3
_cfg.dataloader.update(batch_size=2, num_workers=0)
_cfg.osal.BUDGET = dict(INIT_TILES=3, QUERY_TILES=2, NUM_QUERIES=1)
_cfg.osal.SCHEDULE = dict(EPOCHS=0.0, MIN_ITERS=2)
_cfg.osal.EVAL = dict(GALLERY_TILES=2)
globals().update(_cfg)
'''
METHODS = ("random", "osal_nd", "count_all", "osal_nd_plus")  # those that pages name


def make_clone(folder: Path, data: dict[str, Path], python: Path) -> None:
    """Lay out `folder`; `data` from make_data, `python` the program that stands for the environment's."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(python)
    (folder / "Makefile").write_text(makefile((ROOT / "Makefile").read_text()))
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.png", "*.jpg"))
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("*.png"))
    for path in sorted((ROOT / "configs").rglob("*.*")):
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "benchmarks":
            place.write_text(yaml.safe_dump(small_grid(yaml.safe_load(path.read_text()))))
        elif path.suffix == ".yaml":
            place.write_text(TINY.format(real=path))
        elif path.suffix == ".py" and path.parent.name == "lazy":
            place.write_text(LAZY.format(real=path))
    (folder / "datasets").mkdir()
    for name in ("nucls", "synthetic"):
        shutil.copytree(data["tiles"], folder / "datasets" / name)
    for name in ("slides", "consep"):
        shutil.copytree(data[name], folder / name)


def shrink(path: Path) -> None:
    """Make a config that a program wrote a miniature, too."""
    whole = path.with_name(f"whole_{path.name}").resolve()
    path.rename(whole)
    path.write_text(TINY.format(real=whole))


def makefile(text: str) -> str:
    """With an environment that is there, and 24 small tiles."""
    text = re.sub(r"^(setup:.*)\n(\t.*\n)+", r"\1\n", text, flags=re.M)
    return re.sub(r"--tiles \d+", "--tiles 24 --size 96", text)


def small_grid(grid: dict) -> dict:
    """One seed, the setting of most unknown nuclei, the methods that pages name, and the miniature's schedule."""
    short = {"OSAL.SCHEDULE.MIN_ITERS": 2, "OSAL.BUDGET.NUM_QUERIES": 1}
    settings = sorted(grid["settings"])[:2]
    return {
        **grid,
        "options": {**(grid.get("options") or {}), **short},
        "methods": {name: grid["methods"].get(name, {}) | short for name in METHODS},
        "settings": {name: grid["settings"][name] for name in settings},
        "seeds": [0],
    }


def make_data(folder: Path) -> dict[str, Path]:
    """What stands for the user's images: `tiles`, a NuCLS release; `slides` and `consep`, larger images with COCO."""
    for name, tiles, size in (("tiles", 24, 96), ("large", 10, 240)):
        make_release(folder / name, tiles=tiles, seed=0, size=size, workers=1)
        prepare(folder / name)
    consep = {"tumor": "malignant_epithelial", "lymphocyte": "inflammatory", "stromal": "fibroblast"}
    write_set(folder / "large", folder / "slides", "slides", {})
    write_set(folder / "large", folder / "consep", "consep/images", consep)
    return {name: folder / name for name in ("tiles", "slides", "consep")}


def write_set(release: Path, folder: Path, images: str, names: dict[str, str]) -> None:
    """train.json and test.json of `folder`, classes renamed, with the images in the folder of that name."""
    place = folder.parent / images
    place.mkdir(parents=True)
    for split in ("train", "test"):
        content = json.loads((release / f"annotations/random_fold1_{split}.json").read_text())
        for category in content["categories"]:
            category["name"] = names.get(category["name"], category["name"])
        for image in content["images"]:
            shutil.copy(release / "rgb" / image["file_name"], place)
        (folder / f"{split}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    shrink(Path(sys.argv[1]))
