"""`osal data check`: what it prints, how it exits, and that it needs no torch."""

import json
import subprocess
import sys

from miniature_set import ROOT
from programs import osal

from osal_detectron2.data.coco_file import ERROR


def test_tool_prints_errors_first_and_exits_1(mini, capsys):
    mini.train["annotations"][1]["bbox"] = [55, 5, 10, 10]
    assert osal("data", "check", *mini.arguments()) == 0
    assert "WARNING box-past-border" in capsys.readouterr().out
    mini.train["annotations"][0]["bbox"] = [60, 5, 4, 4]
    report = mini.folder / "report.json"
    assert osal("data", "check", *mini.arguments(), "--json-report", str(report)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ERROR   box-outside") and lines[1].startswith("WARNING box-past-border")
    assert lines[-1] == "1 errors, 1 warnings"
    findings = json.loads(report.read_text())["findings"]
    assert {"level", "check", "message", "remedy"} == set(findings[0]) and findings[0]["level"] == ERROR


def test_tool_shortens_long_lists_and_reports_a_missing_file(mini, capsys):
    mini.train["annotations"] = [
        {**mini.train["annotations"][0], "id": n, "bbox": [0, 0, 0, 0]} for n in range(12)
    ]
    assert osal("data", "check", *mini.arguments(), "--max-lines", "2") == 1
    out = capsys.readouterr().out
    assert out.count("box-zero") == 3 and "and 10 more" in out and "12 errors" in out
    arguments = mini.arguments()
    arguments[1] = str(mini.folder / "absent.json")
    assert osal("data", "check", *arguments) == 1
    assert capsys.readouterr().err.startswith("error: ")


WITHOUT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "detectron2", "cv2", "pycocotools"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
tool, sys.argv = sys.argv[2], sys.argv[2:]
runpy.run_path(tool, run_name="__main__")
"""


def test_without_a_config_torch_and_detectron2_are_not_needed(mini):
    command = [sys.executable, "-c", WITHOUT, str(ROOT), str(ROOT / "tools" / "check_dataset.py")]
    command += mini.arguments()
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "0 errors, 0 warnings" in result.stdout
    config = mini.folder / "mine.yaml"
    config.write_text("TEST:\n  DETECTIONS_PER_IMAGE: 300\n")
    result = subprocess.run([*command, "--config-file", str(config)], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: --config-file cannot be read; leave it out")
