import errno
import json
import os
import random
import resource
import signal
import sys
import time

import numpy as np
import pytest

from osal_detectron2.core import store
from osal_detectron2.core.errors import DataError, OutputError


def _in_child(work) -> int:
    """Run `work` in a forked process; its exit status (0 if `work` returned true)."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_writer_killed_at_any_instant_leaves_a_whole_file(tmp_path):
    """SIGKILL at random instants: what is at the path is always one of the two versions, never a part."""
    path, rng = tmp_path / "state.json", random.Random(0)
    versions = [{"n": n, "payload": list(range(n, n + 4000))} for n in (0, 1)]
    began = time.perf_counter()
    for version in versions:
        store.write_json(path, version)
    one_write = (time.perf_counter() - began) / 2  # disks differ by a factor of 100: aim relative to this one
    seen, leftovers = set(), 0
    for _ in range(40):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write_end, b"x")
            while True:
                for version in versions:
                    store.write_json(path, version)
        os.read(read_end, 1)
        os.close(read_end), os.close(write_end)
        time.sleep(rng.uniform(0.1, 4) * one_write)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = store.read_json(path)
        assert content in versions
        seen.add(content["n"])
        left = store.clean_temporary(tmp_path)
        leftovers += len(left)
        assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    assert seen == {0, 1}, "the writer never got as far as writing: the test shows nothing"
    assert leftovers > 0, "no kill fell into a write: the test shows nothing"


def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path):
    """RLIMIT_FSIZE makes the kernel refuse for real, in the middle of the file."""
    path = tmp_path / "scores.npz"
    store.write_npz(path, old=np.arange(3))
    before = path.read_bytes()

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            store.write_npz(path, new=np.zeros(100_000))
        except OutputError as error:
            return str(path) in str(error) and "File too large" in str(error) and "raise it" in str(error)
        return False

    assert _in_child(fill) == 0
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scores.npz"]


def test_a_library_that_runs_out_of_disk_is_reported_the_same(tmp_path):
    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            with store.atomic_path(tmp_path / "plot.png") as temporary:
                temporary.write_bytes(b"x" * 1000)
        except OutputError as error:
            return "plot.png" in str(error)
        return False

    assert _in_child(fill) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number, word", [(errno.ENOSPC, "free space"), (errno.EROFS, "read-only")])
def test_the_remedy_fits_the_error(tmp_path, number, word):
    with pytest.raises(OutputError, match=word), store.atomic_path(tmp_path / "a"):
        raise OSError(number, os.strerror(number))


def test_a_path_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file/run\.json: cannot be written \(.*\); a part of that path"):
        store.write_json(tmp_path / "file" / "run.json", {})
    with pytest.raises(OutputError, match="choose another OUTPUT_DIR"):
        store.write_json(tmp_path / "file" / "deeper" / "run.json", {})


def test_atomic_path_keeps_the_suffix_and_the_old_file_on_any_failure(tmp_path):
    path = tmp_path / "curve.png"
    path.write_text("old")
    with pytest.raises(RuntimeError), store.atomic_path(path) as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(OutputError, match=r"curve\.png"), store.atomic_path(path):
        pass  # wrote nothing
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["curve.png"]


def test_an_error_of_another_file_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError, match="source"), store.atomic_path(tmp_path / "copy"):
        (tmp_path / "source").read_bytes()


def test_same_arrays_same_bytes_and_numpy_reads_them(tmp_path):
    arrays = {
        "keys": np.array(["a.png", "ü.png"]),
        "score": np.array([1.5, np.nan]),
        "n": np.array([True, False]),
    }
    store.write_npz(tmp_path / "a.npz", **arrays)
    time.sleep(0.01)
    store.write_npz(tmp_path / "b.npz", **dict(reversed(arrays.items())))
    assert store.sha256_file(tmp_path / "a.npz") == store.sha256_file(tmp_path / "b.npz")
    # A fixed hash: another machine must write the same file. Little-endian int64 0, 1, 2.
    store.write_npz(tmp_path / "c.npz", x=np.arange(3, dtype="<i8"))
    content = (tmp_path / "c.npz").read_bytes()
    assert content[10:14] == b"\x00\x00\x21\x00"  # zip time and date: 1980-01-01 00:00
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert sorted(loaded.files) == sorted(arrays)
        for name, value in arrays.items():
            np.testing.assert_array_equal(loaded[name], value)
    with pytest.raises(ValueError):
        store.write_npz(tmp_path / "d.npz", x=np.array([{}], dtype=object))
    assert not (tmp_path / "d.npz").exists()


def test_json_is_sorted_and_refuses_nan_before_touching_the_file(tmp_path):
    path = tmp_path / "x.json"
    store.write_json(path, {"b": 1, "a": [1, 2]})
    assert path.read_text() == '{\n "a": [\n  1,\n  2\n ],\n "b": 1\n}\n'
    with pytest.raises(ValueError):
        store.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2], "b": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe{}", b"[" * 100_000])
def test_damaged_json_names_the_file(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.json"):
        store.read_json(path)


def test_reading_json_with_a_byte_order_mark_and_none_at_all(tmp_path):
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf{}")
    assert store.read_json(tmp_path / "bom.json") == {}
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        store.read_json(tmp_path / "none.json")


def test_clean_temporary_removes_leftovers_only(tmp_path):
    (tmp_path / "rounds" / "000").mkdir(parents=True)
    keep, left = tmp_path / "rounds" / "a.json", tmp_path / "rounds" / "000" / ".osal-tmp-1-ab-a.json"
    keep.write_text("{}")
    left.write_text("{")
    assert store.clean_temporary(tmp_path) == [left]
    assert keep.exists() and not left.exists()


def test_hash_of_bytes_and_file_agree(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.sha256_bytes(b"abc") == store.sha256_file(tmp_path / "f") == known
