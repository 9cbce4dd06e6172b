"""Numpy and the standard library only: a ward PC without torch runs all of this."""
