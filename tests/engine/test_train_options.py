"""What a user sets for `osal train`: words mean what they say, and what cannot be used gets one clear line."""

import argparse

import pytest
from miniature import ROOT, train

from osal_detectron2.commands import train as options
from osal_detectron2.engine.fronts import read_config


def test_a_broken_config_file_is_named(tmp_path, capsys):
    path = tmp_path / "broken.yaml"
    path.write_text("OSAL: [1\nMODEL: }")
    for config in (path, tmp_path / "missing.yaml"):
        assert train(config, "OUTPUT_DIR", tmp_path / "run") == 1
        assert str(config) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["OSAL.STRATEGY", "osalnd"], ("OSAL.STRATEGY", "osal_nd")),
        (["OSAL.DATA.KNOWN_CLASSES", "['tumor','lymphocite']"], ("lymphocite", "lymphocyte")),
        (["OSAL.DATA.KNOWN_CLASSES", "[]"], ("KNOWN_CLASSES",)),
        (["OSAL.BUDGET.INIT_TILES", "4000"], ("INIT_TILES",)),
        (["OSAL.BUDGET.INIT_FILE", "nowhere.txt"], ("nowhere.txt",)),
        (["OSAL.DATA.UNKNOWN_POLICY", "hide"], ("UNKNOWN_POLICY", "drop")),
        (["OSAL.DATA.TRAIN_JSON", "nowhere.json"], ("nowhere.json",)),
        (["OSAL.NO_SUCH_KEY", "1"], ("NO_SUCH_KEY",)),
        (["SOLVER.AMP.ENABLED", "True"], ("SOLVER.AMP.ENABLED",)),
        (["OSAL.BUDGET.QUERY_TILE", "1"], ("OSAL.BUDGET.QUERY_TILE", "do you mean OSAL.BUDGET.QUERY_TILES?")),
        (["SOLVER.BASE_LR"], ("SOLVER.BASE_LR", "a value is missing")),
        (["SOLVER.BASE_LR", "OSAL.SEED", "3"], ("SOLVER.BASE_LR", "a value is missing")),
        (["SOLVER.BASE_LR", "fast"], ("SOLVER.BASE_LR",)),
        (["MODEL.WEIGHTS", "nowhere.pth"], ("MODEL.WEIGHTS", "nowhere.pth")),
        (
            ["MODEL.WEIGHTS", "https://127.0.0.1:9/R-50.pkl"],
            ("R-50.pkl", "local file as MODEL.WEIGHTS", "''"),
        ),
        (["MODEL.WEIGHTS", __file__], (__file__, "cannot be loaded as weights")),
        (["OSAL.DATA.TEST_IMAGE_ROOT", str(ROOT)], (str(ROOT), "5 of 5 images are not in")),
        (["OUTPUT_DIR", "/proc/nothing"], ("/proc/nothing",)),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], ("OSALRCNN",)),
        (
            ["OSAL.AUXILIARY.BOX_BRANCHES", "[EvidentialBranch]"],
            ("dist_known", "add PrototypeBranch to OSAL.AUXILIARY.BOX_BRANCHES"),
        ),
    ],
)
def test_bad_settings_get_one_clear_error(tiny_config, tmp_path, capsys, options, words):
    folder = tmp_path / "run"
    extra = [] if "OUTPUT_DIR" in options else ["OUTPUT_DIR", folder]
    assert train(tiny_config, *extra, *options) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]
    assert not folder.exists(), "what was refused leaves nothing"


def test_a_start_that_was_refused_leaves_a_folder_as_it_was(tiny_config, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    bad = ("OUTPUT_DIR", tmp_path, "OSAL.AUXILIARY.BOX_BRANCHES", "[]")
    assert train(tiny_config, *bad) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert train(tiny_config, "OUTPUT_DIR", tmp_path, "OSAL.ORACLE.NAME", "human") == 0, (
        "no --resume is asked for"
    )
    assert (tmp_path / "rounds/init/query").is_dir()


def test_a_plan_that_the_pool_cuts_short_is_said(tiny_config, tmp_path, caplog):
    options = ("OUTPUT_DIR", tmp_path / "run", "OSAL.BUDGET.QUERY_TILES", "100")
    assert train(tiny_config, *options, flags=("--dry-run",)) == 0
    (text,) = [r.getMessage() for r in caplog.records if "shortened" in r.getMessage()]
    assert (
        "4 initial tiles and 2 queries of 100 make 204" in text
        and "to 1 of 2 queries, the last of 15 tiles" in text
    )


def parsed(*words):
    parser = argparse.ArgumentParser()
    options.train(parser)
    return parser.parse_intermixed_args(words)


def test_words_of_a_command_line_and_a_file_say_what_they_mean(tiny_config, tmp_path):
    (tmp_path / "whole.yaml").write_text(
        f"_BASE_: {tiny_config}\n"
        "OSAL: {SCHEDULE: {EPOCHS: 2}, DATA: {KNOWN_CLASSES: [tumor, non-tumor stroma]}}\n"
    )
    behind = ["OUTPUT_DIR", "2024", "--resume", "--config-file", str(tmp_path / "whole.yaml")]
    args = parsed("OSAL.PROTOTYPE.MARGIN", "8", *behind)
    cfg = read_config(args.config_file, args.opts)
    assert args.resume and cfg.OUTPUT_DIR == "2024"
    assert cfg.OSAL.SCHEDULE.EPOCHS == 2.0 and cfg.OSAL.PROTOTYPE.MARGIN == 8.0
    assert cfg.OSAL.DATA.KNOWN_CLASSES == ["tumor", "non-tumor stroma"]
    for text in ("[tumor, non-tumor stroma]", "['tumor','non-tumor stroma']", "tumor,non-tumor stroma", "(tumor, "
                 '"non-tumor stroma")'):  # fmt: skip
        for words in ([text], text.split(" ")) if text[0] in "[(" else ([text],):
            args = parsed("OSAL.DATA.KNOWN_CLASSES", *words, "OSAL.SEED", "3")
            cfg = read_config(args.config_file, args.opts)
            assert cfg.OSAL.DATA.KNOWN_CLASSES == ["tumor", "non-tumor stroma"] and cfg.OSAL.SEED == 3
