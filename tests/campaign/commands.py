"""The campaign's commands as a lab gives them: in a process of their own, which may be killed."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """run(...) gives a command, kills it as often as it is told to, and gives it again until it has ended well.

    kills: how many are left; killed: [(command, seconds)] of those that were.
    """

    def __init__(self, *, environment=None, kills=0, seed=0):
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.kills, self.killed, self.random = kills, [], random.Random(seed)

    def run(self, *words, most=0, within=5.0):
        """The output of the last call. most: kills to spend on this command, at instants up to `within` seconds."""
        command = [sys.executable, "-m", "osal_detectron2", "campaign", *map(str, words)]
        while most and self.kills:
            delay = self.random.uniform(0.1, within)
            process = self._start(command)
            try:
                process.communicate(timeout=delay)
                break  # it was quicker
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                self.kills, most = self.kills - 1, most - 1
                self.killed.append((words[0], round(delay, 2)))
        begun = time.monotonic()
        process = self._start(command)
        out, err = process.communicate()
        assert process.returncode == 0, f"{words}: {err[-3000:]}\n{out[-1000:]}"
        print(
            f"{' '.join(map(str, words[:2]))}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True
        )
        return out

    def _start(self, command):
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
