"""What `import osal_detectron2` costs, what it registers, and what it says where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LIGHT = [name for name in ("core", "strategies", "oracles", "exchange") if list(ROOT.glob(f"osal_*/{name}"))]

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def run_python(code, **environ):
    environ = {**os.environ, **environ}
    environ.pop("DETECTRON2_DISABLE_CV2", None)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environ)


@pytest.mark.parametrize("part", LIGHT)
def test_light_parts_run_without_torch_and_detectron2(part):
    folder = ROOT / "osal_detectron2" / part
    modules = [f"osal_detectron2.{part}.{file.stem}" for file in folder.glob("[a-z]*.py")]
    blocked = {"torch", "torchvision", "detectron2", "cv2", "PIL", "matplotlib", "scipy", "pycocotools"}
    code = BLOCK.format(names=blocked) + f"import osal_detectron2.{part}\n"
    done = run_python(code + "".join(f"import {module}\n" for module in modules))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["detectron2", "torch"])
def test_missing_package_is_named_with_the_commands_that_install_it(package):
    code = BLOCK.format(names={package}) + "from osal_detectron2 import add_osal_config"
    done = run_python(code)
    message = done.stderr.partition("ImportError: osal_detectron2 needs ")[2]
    assert message.startswith(package)
    assert "pip install --no-build-isolation" in message
    assert "sal-detectron2==0.7.2" in message


def test_repack_in_the_message_is_the_pinned_one():
    import osal_detectron2

    pinned = (ROOT / "requirements" / "detectron2.txt").read_text().splitlines()[-1]
    assert pinned.split()[0] in osal_detectron2.requirement._NO_DETECTRON2


REGISTERED = (
    "\nfrom detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY"
    "\nMETA_ARCH_REGISTRY.get('OSALRCNN'); ROI_HEADS_REGISTRY.get('OpenSetStandardROIHeads')"
)


def test_models_are_registered_after_detectron2():
    done = run_python("import detectron2; import osal_detectron2" + REGISTERED)
    assert done.returncode == 0, done.stderr


def test_a_server_without_libgl_trains_without_opencv(tmp_path):
    """And add_osal_config registers the models."""
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    code = (
        "from osal_detectron2 import add_osal_config\n"
        "from detectron2.config import get_cfg\n"
        "from detectron2.engine import DefaultTrainer\n"
        "cfg = get_cfg(); add_osal_config(cfg); print(cfg.OSAL.STRATEGY)"
    )
    done = run_python(code + REGISTERED, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "osal_nd"
    assert "libGL.so.1" in done.stderr and "opencv-python-headless" in done.stderr


def test_unknown_attribute_stays_an_attribute_error():
    import osal_detectron2

    with pytest.raises(AttributeError, match="no_such_name"):
        osal_detectron2.no_such_name  # noqa: B018
