"""`osal data check`: what in a COCO data set would break an active-learning run or mislead its reader."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict

from ..core.shipped import find_config
from ..core.spelling import spelled
from ..data.coco_file import ERROR, INFO, WARNING

EXAMPLE = """example:
  osal data check --json tiles/train.json --image-root tiles/images --known tumor lymphocyte \\
      --other-json tiles/test.json --config-file configs/my.yaml
One line a finding, with its remedy. Exit code 1 if there is an ERROR, else 0.
"""


def check(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--json", required=True, help="COCO JSON of the training set")
    add("--image-root", required=True, help="folder of its images")
    add("--known", nargs="+", required=True, metavar="CLASS", help="classes to be detected")
    add("--other-json", help="COCO JSON of the test set: checked too, and for leakage")
    add("--other-root", help="folder of the test images (default: --image-root)")
    add("--config-file", help="Detectron2 config: detection limit, anchors, resizing")
    add("--max-lines", type=int, default=5, help="lines for each kind of finding (default 5)")
    add("--json-report", metavar="FILE", help="write all findings to FILE")
    parser.set_defaults(call=_check)


def _check(args) -> int:
    from ..core.store import write_bytes
    from ..data.checks import check_dataset
    from ..data.detector_fit import detector_settings

    findings = check_dataset(
        args.json,
        args.image_root,
        args.known,
        other_json=args.other_json,
        other_root=args.other_root,
        settings=detector_settings(find_config(args.config_file)) if args.config_file else None,
        progress=_progress if sys.stderr.isatty() else None,
    )
    if args.json_report:
        report = {"schema": "osal-dataset-check/1", "findings": [asdict(finding) for finding in findings]}
        write_bytes(args.json_report, (json.dumps(report, indent=1) + "\n").encode())
    _print(findings, args.max_lines)
    return int(any(finding.level == ERROR for finding in findings))


def _print(findings, max_lines: int) -> None:
    levels = [ERROR, WARNING, INFO]
    total = Counter((finding.level, finding.check) for finding in findings)
    shown = Counter()
    for finding in sorted(findings, key=lambda finding: levels.index(finding.level)):
        kind = finding.level, finding.check
        shown[kind] += 1
        if shown[kind] <= max_lines or finding.check == "class-count":
            text = str(finding) if finding.remedy else finding.message
            print(spelled(f"{finding.level:8}{finding.check}: {text}"))
        elif shown[kind] == total[kind]:
            more = total[kind] - max_lines
            print(f"{finding.level:8}{finding.check}: and {more} more (--json-report has all)")
    count = Counter(finding.level for finding in findings)
    print(f"{count[ERROR]} errors, {count[WARNING]} warnings")


def _progress(done: int, total: int) -> None:
    print(f"\r{done}/{total} images decoded", end="\n" if done == total else "", file=sys.stderr, flush=True)
