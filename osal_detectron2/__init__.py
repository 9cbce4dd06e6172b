"""Open-set active learning of nucleus detection on Detectron2.

Importing this package is cheap: `osal_detectron2.core`, the strategies and the oracles run without torch and
Detectron2. `from osal_detectron2 import add_osal_config`, which every training script needs for its config
keys, also registers the models; without that Detectron2 says "No object named 'OSALRCNN' found in 'META_ARCH'
registry". A script that has imported Detectron2 already gets them with a plain `import osal_detectron2`.
"""

import os
import sys
import warnings

__version__ = "0.1.0"
__all__ = ["__version__", "add_osal_config", "require_detectron2"]

_NO_DETECTRON2 = """osal_detectron2 needs {package}, which this Python cannot import ({error}).
torch and torchvision come with osal_detectron2 (python -m pip install -e .). Detectron2 is not on PyPI under
its own name; after that command install it in one of two ways:
  upstream, compiled against your torch:
    python -m pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'
  or the repack of its Python part, which is all that osal_detectron2 uses (Python 3.10 to 3.13):
    python -m pip install --no-deps --only-binary=:all: --python-version 3.10 --upgrade \\
      --target "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" sal-detectron2==0.7.2
`make setup` does all of it in .venv. More in docs/install.md."""

_NO_CV2 = (
    "OpenCV does not load here ({error}); going on without it (DETECTRON2_DISABLE_CV2=1). To have it: "
    "python -m pip uninstall -y opencv-python && python -m pip install opencv-python-headless"
)


def require_detectron2():
    """Import Detectron2, without OpenCV where that lacks a system library (libGL on a server).

    Raises ImportError, whose message says what to install and how, when Detectron2 or torch is missing or too old.
    """
    if "detectron2" not in sys.modules and "DETECTRON2_DISABLE_CV2" not in os.environ:
        try:
            import cv2  # noqa: F401
        except ModuleNotFoundError:
            pass
        except ImportError as error:  # Detectron2 itself would stop here
            os.environ["DETECTRON2_DISABLE_CV2"] = "1"
            warnings.warn(_NO_CV2.format(error=error), stacklevel=2)
    try:
        import detectron2.layers  # noqa: F401  (asks for torch and torchvision as well)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("detectron2", "torch", "torchvision"):
            raise
        raise ImportError(_NO_DETECTRON2.format(package=package, error=error)) from error
    from osal_detectron2.compat import check_detectron2

    check_detectron2()


def __getattr__(name):
    if name != "add_osal_config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_detectron2()
    import osal_detectron2.registration  # noqa: F401
    from osal_detectron2.config import add_osal_config

    globals()[name] = add_osal_config
    return add_osal_config


if "detectron2" in sys.modules:
    require_detectron2()
    import osal_detectron2.registration  # noqa: F401
