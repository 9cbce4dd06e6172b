"""Active learning on a frozen plain ViT of timm, weights from a local file: a foundation model in miniature."""

import timm
import torch
from miniature import train

from osal_detectron2.core.verify import verify
from osal_detectron2.evaluation.learning_curve import read_curve

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 14, "reg_tokens": 2}


def test_rounds_on_a_frozen_vit_leave_it_as_it_was(tiny_config, tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=5, **TINY).state_dict()
    torch.save({"teacher": {f"backbone.{k}": v for k, v in source.items()}}, tmp_path / "vit.pth")
    folder = tmp_path / "run"
    options = {
        "OUTPUT_DIR": folder,
        "OSAL.BUDGET.NUM_QUERIES": 1,
        "OSAL.SCHEDULE.MIN_ITERS": 3,
        "OSAL.STRATEGY": "osal_nd_plus",  # every kind of pass: both detectors, and the maps below the pyramid
        "MODEL.BACKBONE.NAME": "build_timm_backbone",
        "MODEL.TIMM.NAME": "vit_tiny_patch16_224",
        "MODEL.TIMM.KWARGS": [f"{key}={value}" for key, value in TINY.items()],
        "MODEL.TIMM.WEIGHTS": tmp_path / "vit.pth",
        "MODEL.TIMM.FREEZE": True,
    }
    assert train(tiny_config, *(word for pair in options.items() for word in pair)) == 0
    assert verify(folder) == []
    assert [row["labelled_tiles"] for row in read_curve(folder)] == [4, 8]
    model = torch.load(folder / (folder / "last_checkpoint").read_text(), weights_only=True)["model"]
    for child in ("target", "auxiliary"):
        prefix = f"{child}.backbone.net.network."
        found = {k.removeprefix(prefix): v for k, v in model.items() if k.startswith(prefix)}
        assert len(found) > 20 and all(torch.equal(v, source[k]) for k, v in found.items())
