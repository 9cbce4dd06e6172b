"""protocol.md in code: fixed proposals, fixed features, a convex classifier, and the sets that the judge trains on.

`features` makes the cache once, with Detectron2; everything else is numpy on that cache. The programs screening.py and
judge.py beside this folder run it.
"""
