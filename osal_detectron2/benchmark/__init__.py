"""Grids of runs: methods x settings x folds x seeds. Only plan.py imports torch, in a process of its own."""
