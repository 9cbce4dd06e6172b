"""Packaging of osal_detectron2. Detectron2 is not named: it is not on PyPI (docs/install.md)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / "README.md"

setup(
    name="osal_detectron2",
    version=re.search(
        r'^__version__ = "(.+)"', (ROOT / "osal_detectron2/__init__.py").read_text(), re.M
    ).group(1),
    description="Open-set active learning of nucleus detection on Detectron2 (OSAL-ND)",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="osal_detectron2 contributors",
    license="Apache-2.0",
    packages=find_packages(include=["osal_detectron2", "osal_detectron2.*"]),
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.0",
        "torchvision>=0.15",
        "numpy>=1.23",
        "scipy>=1.9",
        "scikit-learn>=1.2",
        "matplotlib>=3.5",
        "pillow>=9",
        "opencv-python>=4.5",
        # What Detectron2 imports, so that it can itself be installed with --no-deps. Upstream's metadata has
        # an upper bound on iopath that its code does not need. setuptools 81 dropped pkg_resources, which
        # Detectron2's model_zoo imports.
        "pycocotools>=2.0.2",
        "fvcore>=0.1.5",
        "iopath>=0.1.7",
        "omegaconf>=2.1,<2.4",
        "hydra-core>=1.1",
        "cloudpickle",
        "tensorboard",
        "yacs>=0.1.8",
        "tabulate",
        "termcolor>=1.1",
        "tqdm>4.29",
        "packaging",
        "black",
        "setuptools<81",
    ],
    extras_require={
        "timm": ["timm>=1.0.22"],  # the backbones of docs/backbones.md
        "formats": ["shapely>=2.0", "defusedxml>=0.7"],  # the files of docs/annotation_tools.md
        "slides": ["openslide-python>=1.3", "openslide-bin>=4.0"],  # docs/campaign.md
        "dev": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "mypy",
            "import-linter",
            "timm",
            "shapely",
            "defusedxml",
        ],
    },
)
