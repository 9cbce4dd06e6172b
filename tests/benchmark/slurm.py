"""A cluster of one machine: sbatch, srun, squeue, sacct, scancel and scontrol, by the name that this file is called by.

Jobs are real processes in the background; the folder that OSAL_TEST_SLURM names holds what is known of them. While it
has a file `hold`, jobs wait; the partition `nowhere` does not exist.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["OSAL_TEST_SLURM"])


def sbatch(script):
    text = Path(script).read_text()
    if "partition=nowhere" in text:
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    number = len(list(FOLDER.glob("*.sh"))) + 1
    shutil.copy(script, FOLDER / f"{number}.sh")  # as Slurm, which reads it once
    cores = re.search(r"cpus-per-task=(\d+)", text)
    environ = {
        **os.environ,
        "SLURM_JOB_ID": str(number),
        **({"SLURM_CPUS_PER_TASK": cores[1]} if cores else {}),
    }
    words = [sys.executable, "-SE", str(Path(__file__).resolve()), "job", str(number)]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    job = subprocess.Popen(words, start_new_session=True, env=environ, **streams)
    (FOLDER / f"{number}.pid").write_text(str(job.pid))
    print(f"Submitted batch job {number}")


def become(number, state):
    new = FOLDER / f"{number}.new"
    new.write_text(state)
    new.replace(FOLDER / f"{number}.state")


def job(number):
    requeue = FOLDER / f"{number}.requeue"
    while True:
        become(number, "PENDING")
        while (FOLDER / "hold").exists():
            time.sleep(0.05)
        become(number, "RUNNING")
        code = subprocess.call(["bash", str(FOLDER / f"{number}.sh")])
        if not requeue.exists():
            return become(number, "FAILED" if code else "COMPLETED")
        requeue.rename(requeue.with_suffix(".requeued"))


def srun(*words):
    number, start = os.environ["SLURM_JOB_ID"], words.index("-u")
    options = dict(zip(words[:start], words[1:start]))
    output, error = (
        open(options[key].replace("%j", number).replace("%t", "0"), "a") for key in ("--output", "--error")
    )
    step = subprocess.Popen([os.environ["OSAL_TEST_PYTHON"], *words[start:]], stdout=output, stderr=error)
    (FOLDER / f"{number}.step").write_text(str(step.pid))
    sys.exit(step.wait())


def state_of(number):
    path = FOLDER / f"{number}.state"
    return path.read_text() if path.exists() else "PENDING" if (FOLDER / f"{number}.sh").exists() else ""


def squeue(_, jobs):
    number = jobs.removeprefix("--jobs=")
    if not state_of(number):
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    if state_of(number) in ("PENDING", "RUNNING"):
        print(number, state_of(number))


def sacct(*words):
    print("JobID|State|NodeList")
    for number in (word for word in words if word.isdecimal()):
        print(f"{number}|{state_of(number)}|here")


def scancel(number, option="", name=""):
    if option == "--signal":
        return os.kill(int((FOLDER / f"{number}.step").read_text()), signal.Signals["SIG" + name])
    if state_of(number) in ("PENDING", "RUNNING"):
        os.killpg(int((FOLDER / f"{number}.pid").read_text()), signal.SIGKILL)
        become(number, "CANCELLED")


def scontrol(_, number):
    (FOLDER / f"{number}.requeue").touch()


if __name__ == "__main__":
    name = Path(sys.argv[0]).name
    globals()[sys.argv[1] if name == "slurm.py" else name](*sys.argv[2 if name == "slurm.py" else 1 :])
