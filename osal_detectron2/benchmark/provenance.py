"""What a result was made with: the commit of the code and the hardware."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path


def commit(folder: Path) -> str:
    """The git commit of the code in `folder`, "-dirty" appended if a tracked file differs; "unknown" without git."""
    head = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if not head:
        return "unknown"
    dirty = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return head + ("-dirty" if dirty else "")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(gpus: Sequence[str] = ()) -> dict:
    """{"cpu": model, "cores": n, "gpu": name of the first of `gpus` or None}."""
    return {"cpu": _cpu(), "cores": cores(), "gpu": _gpu(gpus[0]) if gpus else None}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _gpu(index: str) -> str:
    return (
        _output(["nvidia-smi", f"--id={index}", "--query-gpu=name", "--format=csv,noheader"])
        or f"GPU {index}"
    )


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
