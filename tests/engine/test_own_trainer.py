"""A trainer of one's own: what it must have, several batches a step, and a stop that is not silent."""

import json
import multiprocessing
import os
import re
import shutil
import socket
import sys

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import SimpleTrainer, TrainerBase
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from miniature import ROOT, record

from osal_detectron2.core.errors import ConfigError, DataError
from osal_detectron2.core.verify import verify
from osal_detectron2.engine import AtomicCheckpointer, AwaitingLabels, Session, batches_of_rounds
from osal_detectron2.engine.fingerprint import matching_config
from osal_detectron2.engine.plan import build_plan
from osal_detectron2.engine.resolve import resolve
from osal_detectron2.modeling.round_clock import RoundClock

PAGE = ROOT / "docs" / "plug_in_hook.md"


def names_of_the_page():
    names = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S):
        exec(block, names)
    return names


@pytest.fixture(scope="module")
def page():
    """The names that the code blocks of the page define."""
    return names_of_the_page()


@pytest.fixture
def small(page, tiny_config, tmp_path):
    """small(*options): the miniature with strategy random and one query."""

    def load(*options):
        words = ["OUTPUT_DIR", str(tmp_path / "run"), "OSAL.STRATEGY", "random", "OSAL.BUDGET.NUM_QUERIES", 1]
        return page["load_config"](str(tiny_config), [*words, "OSAL.EVAL.GALLERY_TILES", 0, *options])

    return load


@pytest.fixture
def parts(small, tmp_path):
    """parts(make_trainer, checkpointer=AtomicCheckpointer, **hook) -> (trainer, hook) of the miniature."""

    def make(make_trainer, checkpointer=AtomicCheckpointer, **settings):
        cfg = small()
        session = Session.from_config(cfg)
        model = build_model(cfg)
        trainer = make_trainer(model, torch.optim.SGD(model.parameters(), lr=1e-3))
        hook = session.hook(model, checkpointer(model, cfg.OUTPUT_DIR), **settings)
        trainer.register_hooks([hook])
        return trainer, hook

    return make


def simple(model, optimizer):
    return SimpleTrainer(model, [], optimizer)


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_accumulated_gradients_resume_to_the_same_bytes(page, small, monkeypatch, tmp_path):
    folder, copy = tmp_path / "run", tmp_path / "copy"
    seen = []
    original = page["AccumulatingTrainer"].run_step

    class Watched(page["AccumulatingTrainer"]):
        def run_step(self):
            model, self.model = (
                self.model,
                lambda data: (seen.append([d["image_key"] for d in data]), model(data))[1],
            )
            original(self)
            self.model = model

    monkeypatch.setitem(page, "AccumulatingTrainer", Watched)
    page["train_in_parts"](small())
    assert verify(folder) == [] and (folder / "rounds/001/metrics.json").exists()
    assert [len(batch) for batch in seen] == [1] * 16, "two batches of one tile in each of eight iterations"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "rounds/000")
    shutil.rmtree(copy / "rounds/001")
    (copy / "last_checkpoint").write_text("model_0000002.pth")
    (copy / "model_final.pth").unlink()
    everything, seen[:] = list(seen), []
    page["train_in_parts"](small("OUTPUT_DIR", str(copy)), resume=True)
    assert seen == everything[6:] and record(copy) == record(folder)
    mine, theirs = weights(copy), weights(folder)
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


def test_accumulation_takes_the_tiles_of_the_run_without_it(small):
    cfg = small("SOLVER.IMS_PER_BATCH", 4)
    session = Session.from_config(cfg)
    records, checkpointer = session.plan.train[:6], AtomicCheckpointer(torch.nn.Identity())

    def loader(n):
        hook = session.hook(torch.nn.Identity(), checkpointer, batches_per_iteration=n)
        return hook.make_loader(records, 1, 2, 5)

    loaders = [loader(n) for n in (1, 2, 4)]
    whole, halves, quarters = ([[d["image_key"] for d in batch] for batch in loader] for loader in loaders)
    assert whole == [a + b for a, b in zip(halves[::2], halves[1::2])] and len(whole) == 3
    assert sum(quarters, []) == sum(whole, [])
    with pytest.raises(
        ConfigError, match="4 does not divide by the 1 processes and the 3 batches of an iteration"
    ):
        loader(3)


@pytest.mark.parametrize(
    "announced, what", [(1, "draws more than 1 batch in an iteration"), (4, "drew 2 of the 4 batches")]
)
def test_another_number_of_batches_than_announced_is_one_error_at_once(page, small, parts, announced, what):
    trainer, _ = parts(lambda m, o: page["AccumulatingTrainer"](m, [], o), batches_per_iteration=announced)
    trainer.model.forward = lambda data: {"loss": next(trainer.model.parameters()).sum() * 0}
    if announced == 4:
        trainer._hooks[0].make_loader = lambda *args: [[]] * 40
    with pytest.raises(ConfigError, match=f"{what}.*batches_per_iteration=N.*docs/plug_in_hook.md"):
        trainer.train(0, 8)
    assert trainer.iter == 0


def test_a_bare_trainer_of_the_page_runs_all_rounds(page, parts, tmp_path):
    trainer, _ = parts(page["BareTrainer"])
    trainer.train(0, 8)
    assert verify(tmp_path / "run") == [] and (tmp_path / "run/rounds/001/commit.json").exists()


class Bare(TrainerBase):
    def __init__(self, model, optimizer, **others):
        super().__init__()
        self.model, self.optimizer = model, optimizer
        self.__dict__.update(others)


def test_what_a_trainer_lacks_is_one_error_each_before_anything_is_written(page, parts, tmp_path):
    folder = tmp_path / "run"

    def refused(match, *args, run=lambda trainer, hook: trainer.train(0, 8), **settings):
        shutil.rmtree(folder, ignore_errors=True)
        trainer, hook = parts(*args, **settings)
        before = sorted(folder.rglob("*"))
        with pytest.raises(ConfigError, match=f"{match}.*docs/plug_in_hook.md"):
            run(trainer, hook)
        assert sorted(folder.rglob("*")) == before

    refused(
        "the hook has a DetectionCheckpointer.*AtomicCheckpointer", simple, checkpointer=DetectionCheckpointer
    )
    refused(
        "the checkpointer has no folder; ", simple, checkpointer=lambda model, _: AtomicCheckpointer(model)
    )
    refused("Bare has no reset_data_loader: .*batches come from iter", Bare)
    refused("Bare has no optimizer: ", lambda model, _: Bare(model, None))
    refused("BareTrainer is to train up to iteration 9, but the rounds end at 8", page["BareTrainer"],
            run=lambda trainer, _: trainer.train(0, 9))  # fmt: skip
    refused("outside an EventStorage", simple,
            run=lambda t, hook: next(batches_of_rounds(hook, t.model, t.optimizer)))  # fmt: skip

    def twice(trainer, hook):
        trainer.register_hooks([hook])
        trainer.train(0, 8)

    refused("SimpleTrainer has 2 ActiveLearningHooks; register one", simple, run=twice)


@pytest.mark.parametrize("front", ["do_train", "MyTrainer", "train_simply"])
def test_a_stop_for_people_says_how_to_go_on_once(page, small, front, capsys, tmp_path):
    cfg = small("OSAL.ORACLE.NAME", "human")
    with pytest.raises(AwaitingLabels) as stop:
        trainer = page[front](cfg)
        trainer.train()
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert said.count("awaiting labels for 4 tiles of round init") == 1 and str(stop.value) in said
    if "front" in json.loads((tmp_path / "run/run.json").read_text()):
        assert "start your own script again, with resume=True" in said
    assert "osal train" not in said
    assert f"osal run import {tmp_path / 'run'} FILE" in said


def train_in_two(rank, port, config, options, out):
    """Target of a child process: one of two that train by the page."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))  # fmt: skip
    sys.stdout = open(f"{out}.{rank}", "w", buffering=1)
    torch.set_num_threads(1)
    from osal_detectron2.dist import join

    join()
    page = names_of_the_page()
    page["do_train"](page["load_config"](config, options))


def test_two_processes_stop_for_people_together(tiny_config, start, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["OUTPUT_DIR", str(tmp_path / "run"), "OSAL.STRATEGY", "random", "OSAL.ORACLE.NAME", "human"]
    context = multiprocessing.get_context("forkserver")  # that of `start`, which has imported all
    out = str(tmp_path / "out")
    ranks = [
        context.Process(target=train_in_two, args=(rank, port, str(tiny_config), options, out))
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    said = [(tmp_path / f"out.{rank}").read_text().count("awaiting labels") for rank in (0, 1)]
    assert said == [1, 0]


def test_settings_of_detectron2s_own_loader_are_named(small, caplog):
    cfg = small("INPUT.CROP.ENABLED", True, "INPUT.RANDOM_FLIP", "none",
                "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")  # fmt: skip
    Session.from_config(cfg)
    said = " ".join(caplog.messages)
    for words in (
        "INPUT.CROP is not used",
        "OSAL.DATA.FLIPS, which is True, decides",
        "SAMPLER_TRAIN Repeat",
    ):
        assert words in said
    caplog.clear()
    options = ("INPUT.RANDOM_FLIP", "none", "OSAL.DATA.FLIPS", False)
    Session.from_config(small(*options), resume=True, read_only=True)
    assert "not used" not in " ".join(caplog.messages)


def test_plan_and_session_change_no_config_and_touch_no_folder(small, tmp_path):
    cfg = small()
    cfg.freeze()
    given = cfg.dump()
    plan = build_plan(cfg)
    resolved = resolve(cfg, plan)
    assert cfg.dump() == given and cfg.is_frozen()
    assert resolved.MODEL.ROI_HEADS.NUM_CLASSES == len(plan.known_classes) != cfg.MODEL.ROI_HEADS.NUM_CLASSES
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("not a run")
    session = Session(
        plan,
        resolved.OSAL,
        output_dir=str(folder),
        config=matching_config(resolved),
        make_mapper=lambda **which: None,
        batch_size=2,
    )
    assert session.header() is None
    with pytest.raises(DataError, match="run.json"):
        session.open(resume=True)
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_warm_ups_count_batches(parts):
    trainer, hook = parts(simple, batches_per_iteration=2)
    clock = trainer.model.clock = RoundClock()
    trainer.iter = trainer.start_iter = 0
    with EventStorage(0):
        hook.before_train()
    assert (clock.round_iters, clock.steps) == (8, 0)
