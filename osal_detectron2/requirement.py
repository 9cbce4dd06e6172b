"""What says how to install Detectron2 where it is missing. Imports nothing heavy before it is asked."""

import os
import sys
import warnings

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
