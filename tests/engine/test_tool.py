"""`osal train` as a user meets it: what it prints, refuses and leaves behind."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest
from miniature import ROOT, command, record, train
from PIL import Image
from programs import osal

from osal_detectron2.core.verify import verify
from osal_detectron2.evaluation.report import describe_run


def test_a_run_leaves_everything_that_the_docs_name(reference):
    names = {str(p.relative_to(reference)) for p in reference.rglob("*") if p.is_file()}
    for name in ("curve.csv", "curves.png", "summary.json", "config.yaml", "log.txt", "last_checkpoint"):
        assert name in names
    assert {"rounds/000/gallery.png", "rounds/000/scores.npz", "rounds/002/metrics.json"} <= names
    shown = json.loads((reference / "rounds/000/detections.json").read_text())["tiles"]
    assert list(shown) == json.loads((reference / "rounds/000/selection.json").read_text())["selected"][:2]
    assert all(len(tile["boxes"]) == len(tile["looks_unknown"]) for tile in shown.values())
    assert any(n.startswith("events.out.tfevents") for n in names)
    assert verify(reference) == []
    log = (reference / "log.txt").read_text()
    assert "ETA" in log and "tiles/s" in log, "training and scoring show their progress"
    assert "round 0 of 2" in log


def test_the_selection_keeps_budget_and_explains_itself(reference):
    first = json.loads((reference / "rounds/000/selection.json").read_text())
    assert len(first["selected"]) == first["budget"] == 4
    assert first["candidates"] == 8
    assert "nuclei look known" in first["reasons"][first["selected"][0]]


def test_resume_of_a_finished_run_changes_nothing_and_prints_the_table(reference, tiny_config, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(reference, folder)
    done = command(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",))
    assert done.returncode == 0, done.stderr
    assert record(folder) == record(reference)
    assert "mAP50" in done.stdout and "gallery.png" in done.stdout


def test_a_second_run_in_the_same_folder_is_refused(reference, tiny_config):
    before = record(reference)
    done = command(tiny_config, "OUTPUT_DIR", reference)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error:") and "--resume" in done.stderr
    assert record(reference) == before


def test_resume_with_another_config_names_the_key(reference, tiny_config, capsys):
    before = record(reference)
    assert train(tiny_config, "OUTPUT_DIR", reference, "SOLVER.BASE_LR", "0.5", flags=("--resume",)) == 1
    assert "SOLVER.BASE_LR" in capsys.readouterr().err
    assert train(tiny_config, "OUTPUT_DIR", reference, "OSAL.STRATEGY", "random", flags=("--resume",)) == 1
    assert "OSAL.STRATEGY" in capsys.readouterr().err
    assert record(reference) == before


def test_a_run_of_another_version_goes_on_where_its_keys_mean_the_same(
    reference, tiny_config, tmp_path, capsys
):
    header = json.loads((reference / "run.json").read_text())
    config = header["config"]
    config["OSAL.LAAL.GONE"], config["OSAL.LAAL.STABILITY_WEIGHT"] = 3, 0.7  # this run never read them
    del config["OSAL.PROTOTYPE.BALANCED"]  # a key that came later, at its default now
    (tmp_path / "run.json").write_text(json.dumps(header))
    later = ("OSAL.PROTOTYPE.BALANCED", True)
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, *later, flags=("--resume",)) == 1
    assert "OSAL.PROTOTYPE.BALANCED: false -> true" in capsys.readouterr().err
    config["OSAL.PROTOTYPE.GONE"] = 3  # nobody knows what that did
    (tmp_path / "run.json").write_text(json.dumps(header))
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, flags=("--resume",)) == 1
    assert "OSAL.PROTOTYPE.GONE: 3 -> (not set)" in capsys.readouterr().err
    assert not (tmp_path / "rounds").exists()
    del config["OSAL.PROTOTYPE.GONE"]
    (tmp_path / "run.json").write_text(json.dumps(header))
    done = command(tiny_config, "OUTPUT_DIR", tmp_path, flags=("--resume",))
    assert done.returncode == 0, done.stderr
    chosen = "rounds/001/selection.json"
    assert (tmp_path / chosen).read_bytes() == (reference / chosen).read_bytes()


def test_eval_only_reads_a_checkpoint_and_writes_nothing(reference, tiny_config, tmp_path, capsys):
    weights = reference / "model_final.pth"
    options = ("OUTPUT_DIR", tmp_path / "none", "MODEL.WEIGHTS", weights)
    assert train(tiny_config, *options, flags=("--eval-only",)) == 0
    assert not (tmp_path / "none").exists()
    expected = json.loads((reference / "rounds/002/metrics.json").read_text())
    assert json.loads(capsys.readouterr().out)["bbox"] == expected["bbox"]


def test_a_running_run_holds_its_folder(tiny_config, start, tmp_path, capsys):
    folder = tmp_path / "run"
    process = start(tiny_config, ["OUTPUT_DIR", folder])
    while not (folder / "rounds/init/commit.json").exists():
        assert process.exitcode is None
        process.join(0.05)
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--resume",)) == 1
    assert str(process.pid) in capsys.readouterr().err
    process.join()
    assert process.exitcode == 0


def test_dry_run_says_what_why_and_cost_and_writes_nothing(reference, tiny_config, tmp_path, capsys):
    fresh = tmp_path / "fresh"
    assert train(tiny_config, "OUTPUT_DIR", fresh, flags=("--dry-run",)) == 0
    out = capsys.readouterr().out
    assert "initial set" in out and "4 tiles" in out
    assert not fresh.exists()
    # Take the last rounds of a finished run away: the preview must name what the run really queried then.
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    picked = json.loads((folder / "rounds/001/selection.json").read_text())["selected"]
    for name in ("001", "002"):
        shutil.rmtree(folder / "rounds" / name)
    files = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert train(tiny_config, "OUTPUT_DIR", folder, flags=("--dry-run",)) == 0
    out = capsys.readouterr().out
    assert "query of round 1" in out and "minutes of annotation" in out
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == files
    assert len(picked) == 4
    # What would another strategy ask for, with the detectors of this run?
    assert train(tiny_config, "OUTPUT_DIR", folder, "OSAL.STRATEGY", "utss", flags=("--dry-run",)) == 0
    left = len(json.loads((folder / "run.json").read_text())["pool"]) - 8
    assert f"of {left} candidates" in capsys.readouterr().out
    # A strategy that would train another auxiliary looks through the one that is there, weights and all.
    assert train(tiny_config, "OUTPUT_DIR", folder, "OSAL.STRATEGY", "lfosa", flags=("--dry-run",)) == 0
    captured = capsys.readouterr()
    assert "query of round 1" in captured.out and "Skip loading" not in captured.out + captured.err
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == files


@pytest.mark.parametrize("damage", ["missing", "truncated", "resized"])
def test_a_damaged_tile_is_named(tiles, tiny_config, tmp_path, capsys, damage):
    root = tmp_path / "rgb"
    shutil.copytree(tiles / "rgb", root)
    for path in root.iterdir():
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:2000])
        else:
            Image.open(path).resize((50, 50)).save(path)
    options = ["OSAL.DATA.TRAIN_IMAGE_ROOT", root, "OUTPUT_DIR", tmp_path / "run"]
    assert train(tiny_config, *options) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and ".png" in errors[0]


def test_the_end_of_a_run_says_what_to_do_next(reference):
    lines = [line.split(None, 1) for line in describe_run(reference).splitlines()]
    commands = [
        words[1][words[1].index("osal ") :] for words in lines if len(words) > 1 and "osal " in words[1]
    ]
    (why,) = (command for command in commands if "run why" in command)
    words = [sys.executable, "-m", "osal_detectron2", *shlex.split(why)[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "round 0" in done.stdout, done.stderr
    assert f"osal predict {reference} --images FOLDER --out predictions" in commands


def test_a_run_without_a_test_set_goes_to_its_end_and_says_what_it_cannot_say(tiny_config, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["OSAL.DATA.TEST_JSON", "", "OSAL.STRATEGY", "pcss", "OUTPUT_DIR", folder]
    options += ["OSAL.BUDGET.NUM_QUERIES", 1, "OSAL.SCHEDULE.MIN_ITERS", 2, "OSAL.EVAL.CURVES", True]
    assert train(tiny_config, *options) == 0
    assert train(tiny_config, *options, flags=("--resume",)) == 0, "a finished run only shows its table"
    out = capsys.readouterr().out
    assert "not evaluated: there is no test set" in out
    table = [line.split() for line in out.splitlines() if line.split()[:1] in (["0"], ["1"])]
    assert len(table) == 4 and all("-" in row for row in table)
    metrics = json.loads((folder / "rounds/001/metrics.json").read_text())
    assert metrics["labelled_tiles"] == 8 and not {"bbox", "open_set"} & set(metrics)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final_mAP50"] is None and summary["known_queried"] > 0
    assert (folder / "curves.png").is_file() and verify(folder) == []
    assert osal("run", "detections", folder, "--out", tmp_path / "picture.png") == 1
    assert "has no test set" in capsys.readouterr().err


def test_tiles_without_any_label_start_a_run_with_people_and_no_other(tiny_config, tiles, tmp_path, capsys):
    images = json.loads((tiles / "annotations/random_fold1_train.json").read_text())["images"]
    (tmp_path / "bare.json").write_text(json.dumps({"images": images}))
    options = ["OSAL.DATA.TRAIN_JSON", tmp_path / "bare.json", "OUTPUT_DIR", tmp_path / "run"]
    options += ["OSAL.DATA.TEST_JSON", ""]
    assert train(tiny_config, *options) == 1
    assert "no tile has an annotation" in capsys.readouterr().err and not (tmp_path / "run/run.json").exists()
    assert train(tiny_config, *options, "OSAL.ORACLE.NAME", "human") == 0
    (batch,) = (tmp_path / "run").rglob("batch.json")
    names = [c["name"] for c in json.loads(batch.read_text())["categories"]]
    assert names == ["tumor", "lymphocyte", "stromal", "unknown"], "and people can still mark what is unknown"


def test_a_config_made_from_the_data_trains(tiles, tmp_path, capsys):
    data = tiles / "annotations/random_fold1_train.json"
    words = ["--json", str(data), "--image-root", str(tiles / "rgb"), "--device", "cpu"]
    words += ["--known", "tumor", "lymphocyte", "--out", str(tmp_path / "my.yaml")]
    words += ["--output-dir", str(tmp_path / "run")]
    assert osal("data", "config", *words) == 0
    quick = ["OSAL.SCHEDULE.MIN_ITERS", 1, "OSAL.SCHEDULE.EPOCHS", 0.1, "OSAL.BUDGET.NUM_QUERIES", 1]
    assert train(tmp_path / "my.yaml", *quick, "SOLVER.IMS_PER_BATCH", 1) == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["strategy"] == "osal_nd_plus"
