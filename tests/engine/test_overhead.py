"""The overhead benchmark runs end to end, and its ratios are those of the turns."""

import importlib
import json
import sys
from functools import partial

import programs
import pytest
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from miniature import ROOT

from osal_detectron2.data.mapper import mapper_from_config
from osal_detectron2.engine.plan import load_data
from osal_detectron2.modeling.optimizer import build_osal_optimizer

SCRIPT = ROOT / "benchmarks/overhead.py"


@pytest.fixture(scope="module")
def overhead():
    """The script as a module, with what lies beside it."""
    path = sys.path.copy()
    sys.path.insert(0, str(SCRIPT.parent))
    module = importlib.import_module("overhead")
    sys.path[:] = path
    return module


def test_sides_take_turns_and_ratios_are_taken_turn_by_turn(overhead):
    now, calls = [0.0], []
    # Seconds of each turn. The first warms up; the machine is ten times slower in the last.
    lasts = {"a": [99.0, 2.0, 3.0, 40.0], "b": [1.0, 1.0, 1.0, 10.0]}

    def side(name):
        def run(turn):
            calls.append(name)
            now[0] += lasts[name][turn]

        return run

    seconds = overhead.interleaved({n: side(n) for n in lasts}, repeats=3, clock=lambda: now[0])
    assert "".join(calls) == "abababab"
    assert seconds["a"].tolist() == [2.0, 3.0, 40.0]
    # Ratios 2, 3, 4: the slow turn slows both sides.
    assert overhead.summarize(seconds, "a / b") == {"median": 3.0, "q25": 2.5, "q75": 3.5, "repeats": 3}


@pytest.mark.parametrize("backbone", ["own", "detached"])
def test_both_sides_of_a_training_step_do_the_same_work(overhead, tiny_config, backbone):
    """Same weights, tiles and samples: all losses are equal but that of the prototypes."""
    cfg = overhead.read_config(
        str(tiny_config), ["MODEL.ROI_HEADS.NUM_CLASSES", "3", "OSAL.AUXILIARY.BACKBONE", backbone]
    )
    records = load_data(cfg)[0][:2]
    batch = [mapper_from_config(cfg, train=False, with_labels=True)(r) for r in records]
    model, plain = build_model(cfg), overhead.plain_detectors(cfg)
    overhead.same_weights(plain, model)
    seen = {}
    for name, detector in [("osal", model), *plain.items()]:
        hook = partial(lambda name, module, args, losses: seen.setdefault(name, losses), name)
        detector.register_forward_hook(hook)
    optimizer = build_osal_optimizer(cfg, model)
    sides = overhead.training_sides(cfg, model, plain, optimizer, [batch])
    with EventStorage():
        for side in sides.values():
            side(0)
    expected = {f"{name}/{key}": v for name in plain for key, v in seen[name].items()}
    assert seen["osal"].keys() - expected.keys() == {"auxiliary/loss_prototype"}
    for key, value in expected.items():
        assert seen["osal"][key].item() == pytest.approx(value.item(), rel=1e-4), key


def test_the_script_measures_every_ratio(tiny_config, tmp_path):
    output = tmp_path / "overhead.json"
    words = ("--repeats", 2, "--tiles", 4, "--batch", 2, "--train-steps", 4, "--output", output)
    done = programs.run([SCRIPT, "--config-file", tiny_config, *words], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert list(result["ratios"]) == sorted(
        [
            "training_step",
            "scoring_rate_vs_bare",
            "scoring_rate_vs_bare_reading",
            "scoring_rate_vs_plain",
            "scoring_rate_vs_stock_loop",
        ]
    )
    for name, ratio in result["ratios"].items():
        assert ratio["repeats"] == 2
        assert 0 < ratio["q25"] <= ratio["median"] <= ratio["q75"], name
        assert 0.2 < ratio["median"] < 5, name
        assert f"{ratio['median']:6.3f}" in done.stdout
    assert result["config"]["tiles"] == 4
    assert min(result["detections_per_tile"].values()) > 0
    assert result["hardware"]["threads"] == 1 and result["hardware"]["gpu"] is None
    assert {"torch", "detectron2"} <= result["versions"].keys()


def test_a_wrong_key_is_one_line(overhead, tiny_config, capsys):
    assert overhead.main(["--config-file", str(tiny_config), "MODEL.NO_SUCH_KEY", "1"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "NO_SUCH_KEY" in message and message.count("\n") == 1
