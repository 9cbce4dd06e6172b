"""A full disk, for real: a limit on the size of files that the kernel enforces."""

import resource
import shutil

import pytest
from miniature import command, record, train

from osal_detectron2.core.verify import verify


@pytest.mark.parametrize("size", [200, 20_000, 4_000_000])
def test_a_full_disk_loses_nothing(tiny_config, reference, tmp_path, size):
    """At 200 bytes run.json does not fit, at 20 kB no weights do, at 4 MB no checkpoint with optimizer state."""
    folder = tmp_path / "run"

    def limit():  # Python ignores SIGXFSZ, so that a write beyond the limit fails with an OSError
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = command(tiny_config, "OUTPUT_DIR", folder, preexec_fn=limit)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and str(folder) in errors[0], done.stderr
    assert ("--resume" in errors[0]) == (folder / "run.json").exists()
    assert not list(folder.rglob(".osal-tmp-*"))
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",)) == 0
    assert verify(folder) == []
    assert record(folder) == record(reference)


def test_a_damaged_checkpoint_tag_is_refused_and_can_be_mended(tiny_config, reference, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    (folder / "last_checkpoint").write_text("")
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",)) == 1
    assert "boundary.pth, model_final.pth) into last_checkpoint" in capsys.readouterr().err
    (folder / "last_checkpoint").write_text("boundary.pth")
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",)) == 0
    assert record(folder) == record(reference)
