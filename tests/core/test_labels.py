import json

import numpy as np
import pytest

from osal_detectron2.core.errors import DataError
from osal_detectron2.core.labels import LabelFile, TileLabels


def test_round_trip_in_the_documented_schema(tmp_path):
    tiles = {
        "s/1.png": TileLabels("labelled", np.array([[1, 2.5, 3, 4]]), ["tumor"], "anna"),
        "s/2.png": TileLabels("reviewed_empty"),
        "s/3.png": TileLabels("rejected"),
    }
    file = LabelFile(classes=("tumor", "other"), tiles=tiles)
    file.write(tmp_path / "labels.json")
    assert json.loads((tmp_path / "labels.json").read_text())["tiles"]["s/1.png"] == {
        "state": "labelled",
        "boxes": [[1.0, 2.5, 3.0, 4.0]],
        "classes": ["tumor"],
        "annotator": "anna",
    }
    assert LabelFile.read(tmp_path / "labels.json") == file


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("pending",), "pending"),
        (("labelled",), "does not go with 0 boxes"),
        (("rejected", [[0, 0, 1, 1]], ["a"]), "does not go with 1 boxes"),
        (("reviewed_empty", [[0, 0, 1, 1]], ["a"]), "does not go with 1 boxes"),
        (("labelled", [[0, 0, 1, 1]], []), "0 classes"),
        (("labelled", [[0, 0, 0, 1]], ["a"]), "above 0"),
        (("labelled", [[0, 0, 1, -1]], ["a"]), "above 0"),
        (("labelled", [[float("nan"), 0, 1, 1]], ["a"]), "finite"),
        (("labelled", [[0, 0, float("inf"), 1]], ["a"]), "finite"),
        (("labelled", [[0, 0, 1]], ["a"]), "four numbers"),
        (("labelled", [5], ["a"]), "four numbers"),
        (("labelled", [[0, 0, 1, 1]], [3]), "text"),
    ],
)
def test_wrong_labels_are_refused(arguments, word):
    with pytest.raises(DataError, match=word):
        TileLabels(*arguments)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"schema": "osal-labels/9"}, "schema"),
        ({"tiles": {"t.png": {"state": "labelled"}}}, r"t\.png"),
        ({"tiles": {"t.png": 3}}, r"t\.png"),
        ({"tiles": []}, "labels.json"),
        ({"classes": ["other"]}, "tumor"),
        ({"classes": 3}, "labels.json"),
    ],
)
def test_damaged_files_name_the_file(tmp_path, change, word):
    tile = {"state": "labelled", "boxes": [[0, 0, 1, 1]], "classes": ["tumor"], "annotator": "x"}
    content = {"schema": "osal-labels/1", "classes": ["tumor"], "tiles": {"t.png": tile}, **change}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"labels\.json") as error:
        LabelFile.read(tmp_path / "labels.json")
    assert error.match(word)
