"""A full disk, for real: a limit on the size of files that the kernel enforces."""

import resource
import shutil
import signal

import pytest
from miniature import record, train

from osal_detectron2.core.verify import verify


@pytest.fixture
def full_disk():
    """No file can grow beyond so many bytes. Python ignores SIGXFSZ, so a write fails with an OSError."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [200, 20_000, 400_000])
def test_a_full_disk_loses_nothing(tiny_config, reference, tmp_path, capfd, full_disk, size):
    """At 200 bytes run.json does not fit, at 20 kB no weights do, at 400 kB no checkpoint with optimizer state."""
    folder = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    full_disk(size)
    code = train(tiny_config, "OUTPUT_DIR", folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and str(folder) in errors[0]
    assert not list(folder.rglob(".osal-tmp-*"))
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",)) == 0
    assert verify(folder) == []
    assert record(folder) == record(reference)


def test_a_damaged_checkpoint_tag_is_survived(tiny_config, reference, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    (folder / "last_checkpoint").write_text("")
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",)) == 0
    assert record(folder) == record(reference)
