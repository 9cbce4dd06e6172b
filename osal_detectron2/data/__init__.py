"""Data sets: the NuCLS reader and its folds, a synthetic set in the same layout, open-set COCO views, tiling.

Nothing is imported here: the reader and the renderer work without torch or detectron2.
"""
