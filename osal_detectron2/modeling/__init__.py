"""Models: prototypes, evidence, ROI heads, the two-detector meta-architecture and backbones.

Importing `osal_detectron2.registration` puts them in Detectron2's registries.
"""
