"""Importing this module puts everything of the package into Detectron2's registries and catalogs."""

from .data.nucls_catalog import register_all_nucls

# These import the others.
from .modeling import cascade, loss_prediction, meta_arch, prototypes, timm_backbones  # noqa: F401

register_all_nucls()
