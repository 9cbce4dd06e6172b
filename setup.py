"""For `python setup.py ...` and old versions of pip; everything is in pyproject.toml."""

from setuptools import setup

setup()
