"""Screening of selection rules: fixed proposals, fixed features, a convex classifier (benchmarks/protocol.md).

`features` makes the cache once, with Detectron2; everything else is numpy on that cache.
"""
