import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from osal_detectron2.core.errors import LedgerError, OutputError
from osal_detectron2.core.lock import RunLock

ROOT = Path(__file__).parents[2]

HOLD = """
    import os, sys, time
    from osal_detectron2.core.lock import RunLock
    lock = RunLock(sys.argv[1]).acquire()
    if "fork" in sys.argv and os.fork() == 0:  # a data-loading worker that outlives its parent
        print(os.getpid(), flush=True)
        time.sleep(60)
    if "fork" not in sys.argv:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path):
    """Start a process that holds the lock; returns (process, pid that it printed)."""
    started, extra = [], []

    def start(*args):
        command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path), *args]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        extra.append(int(process.stdout.readline()))
        return process, extra[-1]

    yield start
    for pid in extra:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, hold):
    process, _ = hold()
    with pytest.raises(LedgerError, match=rf"process {process.pid} on \S+ \(since .*OUTPUT_DIR"):
        RunLock(tmp_path).acquire()
    assert process.poll() is None
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == process.pid  # the refused one wrote nothing


def test_a_killed_holder_is_recognised_and_its_lock_taken(tmp_path, hold, caplog):
    process, _ = hold()
    process.kill()
    process.wait()
    with caplog.at_level(logging.WARNING), RunLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert "Recovered" in caplog.text and f"process {process.pid}" in caplog.text


def test_a_living_worker_of_a_dead_holder_does_not_keep_the_lock(tmp_path, hold):
    process, worker = hold("fork")
    process.kill()
    process.wait()
    os.kill(worker, 0)  # the worker lives, with the lock file open
    with RunLock(tmp_path):
        pass


def test_a_forked_child_cannot_give_the_lock_away(tmp_path):
    with RunLock(tmp_path) as lock:
        child = os.fork()
        if child == 0:
            lock.release()
            lock._file.close()
            try:
                RunLock(tmp_path).acquire()
            except LedgerError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from osal_detectron2.core.lock import RunLock; RunLock(sys.argv[1]).acquire()",
                tmp_path,
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert f"process {os.getpid()}" in other.stderr


def test_the_same_process_is_refused_and_does_not_lose_its_lock(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(LedgerError, match="this process already"):
            RunLock(tmp_path).acquire()
        child = os.fork()
        if child == 0:
            try:
                RunLock(tmp_path).acquire()
            except LedgerError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_after_a_release_nothing_is_left_to_recover(tmp_path, caplog):
    for _ in range(2):
        with caplog.at_level(logging.WARNING), RunLock(tmp_path):
            pass
    assert (tmp_path / ".lock").read_text() == "" and caplog.text == ""


def test_a_damaged_lock_file_does_not_stop_the_run(tmp_path):
    (tmp_path / ".lock").write_bytes(b'{"pid": \xff')
    with RunLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        RunLock(tmp_path / "file").acquire()


def test_a_lock_that_is_withdrawn_leaves_what_was_there(tmp_path):
    folder = tmp_path / "a" / "b"
    RunLock(folder).acquire().withdraw()
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    lock = RunLock(folder).acquire()
    (folder / "notes.txt").write_text("mine")
    lock.withdraw()
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    with RunLock(folder):
        pass
    RunLock(folder).acquire().withdraw()
    assert (folder / ".lock").exists(), "it was there before"


def test_a_lock_file_that_goes_away_while_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    """Its holder has withdrawn it after we opened it: a lock on a file without a name excludes nobody."""
    real, calls = fcntl.lockf, []

    def lockf(file, how):
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with RunLock(tmp_path) as lock:
        assert len(calls) == 2
        assert os.path.samestat(os.stat(lock.path), os.fstat(lock._file.fileno()))
