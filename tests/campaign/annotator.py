"""Somebody who labels in Label Studio: reads the tasks of a project and submits what a COCO file says, by the API."""

import json
import re
from pathlib import Path

KEY = re.compile(r"(?P<stem>.+)_x(?P<x>\d{6})_y(?P<y>\d{6})\.png")


def truth_of(*coco_files):
    """{stem of an image: [(class name, (x, y, w, h))]} of COCO files."""
    boxes = {}
    for path in coco_files:
        data = json.loads(Path(path).read_text())
        names = {c["id"]: c["name"] for c in data["categories"]}
        stems = {i["id"]: Path(i["file_name"]).stem for i in data["images"]}
        for stem in stems.values():
            boxes.setdefault(stem, [])
        for entry in data["annotations"]:
            boxes[stems[entry["image_id"]]].append((names[entry["category_id"]], tuple(entry["bbox"])))
    return boxes


def boxes_in(truth, key, width, height):
    """The boxes of a tile, cut at it: of the nuclei whose centre is in it."""
    match = KEY.fullmatch(key)
    left, top = (int(match["x"]), int(match["y"])) if match else (0, 0)
    found = []
    for name, (x, y, w, h) in truth[match["stem"] if match else Path(key).stem]:
        if left <= x + w / 2 < left + width and top <= y + h / 2 < top + height:
            low_x, low_y = max(x - left, 0), max(y - top, 0)
            high_x, high_y = min(x + w - left, width), min(y + h - top, height)
            found.append((name, (low_x, low_y, high_x - low_x, high_y - low_y)))
    return found


def region(number, name, box, width, height):
    """A rectangle as Label Studio's page submits it."""
    x, y, w, h = box
    value = {
        "x": 100 * x / width,
        "y": 100 * y / height,
        "width": 100 * w / width,
        "height": 100 * h / height,
    }
    return {
        "id": f"r{number}",
        "type": "rectanglelabels",
        "from_name": "nucleus",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, "rotation": 0, "rectanglelabels": [name]},
    }


def label_open_tasks(server, project, truth, sizes, *, most=None):
    """Submit the open tasks of a project in order, each with its lead time; returns their keys.

    server: a LabelStudio. sizes: {key: (width, height)}.
    """
    done = []
    for task in list(server.tasks(project)):
        if task["annotations"] or (most is not None and len(done) >= most):
            continue
        key = task["data"]["osal_key"]
        boxes = boxes_in(truth, key, *sizes[key])
        result = [region(i, name, box, *sizes[key]) for i, (name, box) in enumerate(boxes)]
        body = {"result": result, "lead_time": 12.0 + 2.5 * len(boxes)}
        server._call("POST", f"/api/tasks/{task['id']}/annotations/", body)
        done.append(key)
    return done
