"""Run Python programs as a user does, without the seconds that each of them needs to import torch and Detectron2.

A server, one for a pytest process, has imported both. For each program it forks a child, which takes over the
caller's words, folder, environment and standard streams and runs the file as `__main__`. The caller is `python` in
`python()`, an executable that hands everything on and ends with the child's exit code, for a shell or subprocess.run.
A child whose caller is killed is killed. Its ranks (--num-gpus 2) are forks too, of arguments that went through pickle.
Whether a program gets along without torch, or handles a signal, is for a real process to say.
"""

import atexit
import contextlib
import fcntl
import json
import os
import pickle
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = ("osal_detectron2.registration", "osal_detectron2.engine.command_line", "osal_detectron2.engine.lazy",
             "osal_detectron2.engine.trainer", "detectron2.model_zoo", "matplotlib.pyplot", "cv2",
             "torch.utils.tensorboard", "fsspec.core")  # fmt: skip

CLIENT = """#!{python} -SE
import json, os, resource, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
request = json.dumps([{first} + sys.argv[1:], os.getcwd(), dict(os.environ), limit]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
sys.exit(int(server.recv(8) or 137))  # no answer: it was killed
"""


@cache
def folder() -> Path:
    """A folder with `python` and `osal`, for PATH. Its server ends with this process."""
    place = Path(tempfile.mkdtemp(prefix="osal-programs-"))
    for name, first in (("python", []), ("osal", ["-m", "osal_detectron2"])):
        client = place / name
        client.write_text(CLIENT.format(python=sys.executable, address=str(place / "socket"), first=first))
        client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, str(place / "socket")],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
    )
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError("the server of tests/programs.py did not start")
    atexit.register(stop, server, place)
    return place


def stop(server, place):
    server.kill()
    server.wait()
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def python() -> str:
    """For subprocess.Popen, PYTHON_EXEC of torchrun, or in place of sys.executable."""
    return str(folder() / "python")


def run(words, **options) -> subprocess.CompletedProcess:
    """`python WORDS...` with its output as text; `options` are those of subprocess.run."""
    options = {"capture_output": True, "text": True, **options}
    return subprocess.run([python(), *map(str, words)], **options)


def osal(*words) -> int:
    """`osal WORDS...` in this process; returns its exit code."""
    from osal_detectron2.commands.main import main

    try:
        return main(list(map(str, words)))
    except SystemExit as end:
        return end.code or 0


def serve(address: str) -> None:
    for module in PRELOADED:
        __import__(module)
    import torch.multiprocessing

    torch.multiprocessing.start_processes = start_forks
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    print("ready", flush=True)
    listener.settimeout(2)
    parent = os.getppid()
    while os.getppid() == parent:  # also where pytest was killed
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            connection.settimeout(None)
            return program(connection)
        connection.close()


def start_forks(fn, args=(), nprocs=1, join=True, daemon=False, start_method="spawn"):
    """torch.multiprocessing.start_processes of forks, which import nothing."""
    from torch.multiprocessing.spawn import start_processes

    return start_processes(fn, pickle.loads(pickle.dumps(args)), nprocs, join, daemon, "fork")


def program(connection: socket.socket) -> None:
    """Be the program that `connection` asks for, and send its exit code."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    size, request = int.from_bytes(head, "big"), b""
    while len(request) < size:
        request += connection.recv(size - len(request))
    words, place, environment, limit = json.loads(request)
    # The end of the connection, which is the end of the caller, kills.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    sys.executable = str(Path(sys.argv[1]).with_name("python"))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    code = 0
    try:
        execute(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGWINCH)  # which nobody minds
    connection.sendall(str(code).encode())
    os._exit(code)


def execute(words: list[str]) -> None:
    """What `python WORDS...` does for a file, `-m MODULE`, `-c CODE` and `-` (standard input)."""
    while words[0] in ("-u", "-W"):
        words = words[1 if words[0] == "-u" else 2 :]
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    if words[0] == "-m":
        sys.argv, sys.path[:0] = words[1:], [os.getcwd()]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] in ("-c", "-"):
        sys.argv, sys.path[:0] = [words[0], *words[2:]], [""]
        text = words[1] if words[0] == "-c" else sys.stdin.read()
        exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[:0] = words, [str(Path(words[0]).resolve().parent)]
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
