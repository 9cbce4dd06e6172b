"""A made-up NuCLS release: H&E-like tiles rendered from a seed, in the layout of the real one.

    classes      what each kind of nucleus looks like
    composition  how many nuclei of each class lie in which tile
    tissue       background, compartments and places
    render       pixels
    release      files

It stands in for the real data in demonstrations and tests. It is a picture of what pathologists describe, not
a model of tissue: results on it say that the software works, not that a method does.
"""

from .release import make_release

__all__ = ["make_release"]
