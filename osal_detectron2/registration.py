"""Importing this module puts everything of the package into Detectron2's registries."""

from osal_detectron2.modeling import backbones, meta_arch, roi_heads, unknown

__all__ = ["backbones", "meta_arch", "roi_heads", "unknown"]
