"""Submit the drafts of Label Studio's tasks as user 1, and skip the last: answer_tasks.py FOLDER OUT."""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:])
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks):
        result = (task["predictions"] or [{"result": []}])[0]["result"]
        answer = {
            "completed_by": 1,
            "lead_time": 20.0,
            "result": result,
            "was_cancelled": number == len(tasks) - 1,
        }
        task["annotations"] = [answer]
    out.write_text(json.dumps(tasks))
