"""Test-set metrics (`open_set_coco`), the learning curve of a run, its report and its picture galleries.

Kept empty on purpose: only `open_set_coco` needs torch and Detectron2, so curves, reports and galleries can
be rebuilt on a machine that has neither. Import the module that you need.
"""
