"""Importing this module puts everything of the package into Detectron2's registries and catalogs."""

from osal_detectron2.data.nucls_catalog import register_all_nucls
from osal_detectron2.modeling import (
    backbones,
    cascade,
    evidence,
    loss_prediction,
    meta_arch,
    prototypes,
    roi_heads,
    timm_backbones,
    unknown,
)

register_all_nucls()

__all__ = [
    "backbones",
    "cascade",
    "evidence",
    "loss_prediction",
    "meta_arch",
    "prototypes",
    "register_all_nucls",
    "roi_heads",
    "timm_backbones",
    "unknown",
]
