"""What was one class for each combination of box branches goes on working: names, checkpoints, configs, runs, grids."""

import json

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads, build_model

from osal_detectron2 import add_osal_config
from osal_detectron2.benchmark.plan import describe
from osal_detectron2.core.errors import ConfigError, LedgerError
from osal_detectron2.core.ledger import Ledger
from osal_detectron2.engine.fingerprint import matching_config
from osal_detectron2.engine.recipe import check_recipe, training_keys
from osal_detectron2.engine.resolve import default_config
from osal_detectron2.engine.run_record import find_ledger
from osal_detectron2.modeling import cascade, roi_heads
from osal_detectron2.renamed import OLD_HEADS, adopt_old_keys, renamed

PROTOTYPE = [
    f"box_branches.prototype.{name}"
    for name in ("prototypes", "steps", "feature_sums", "feature_counts", "initialised")
]
BRANCH = [f"box_branches.evidence.{name}" for name in ("evidence.weight", "evidence.bias", "schedule.steps")]
EDL = {
    "ROIHeads": ["box_predictor.schedule.steps"],
    "Res5ROIHeads": ["box_predictor.schedule.steps"],
    "CascadeROIHeads": [f"box_predictor.{i}.schedule.steps" for i in range(3)],
}
# What commit be7c1c3 wrote for each head beyond the keys of Detectron2's, by OSAL.EVIDENCE.MODE.
WRITTEN = {}
for family, edl in EDL.items():
    WRITTEN[f"Prototype{family}"] = {"posthoc": PROTOTYPE, "branch": PROTOTYPE, "edl": PROTOTYPE}
    WRITTEN[f"Evidential{family}"] = {"posthoc": [], "branch": BRANCH, "edl": edl}
    WRITTEN[f"PrototypeEvidential{family}"] = {
        "posthoc": PROTOTYPE,
        "branch": PROTOTYPE + BRANCH,
        "edl": edl + PROTOTYPE,
    }
STOCK = {"Res5": "Res5ROIHeads", "Cascade": "CascadeROIHeads"}


@pytest.fixture
def cfg_of(request, toy_cfg):
    """cfg_of(name): a plain detector with the heads of that name."""

    def make(name):
        cfg = request.getfixturevalue("c4_cfg") if "Res5" in name else toy_cfg
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = "GeneralizedRCNN", name
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = "Cascade" in name
        return cfg

    return make


@pytest.mark.parametrize("mode", ["posthoc", "branch", "edl"])
@pytest.mark.parametrize("name", OLD_HEADS)
def test_a_checkpoint_of_each_old_head_has_a_place_for_every_weight(cfg_of, name, mode):
    cfg = cfg_of(name)
    cfg.OSAL.EVIDENCE.MODE = mode
    state = build_model(cfg).state_dict()
    cfg.MODEL.ROI_HEADS.NAME = next((v for k, v in STOCK.items() if k in name), "StandardROIHeads")
    stock = build_model(cfg).state_dict()
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.BOX_BRANCHES = OLD_HEADS[name][0], list(OLD_HEADS[name][1])
    new = build_model(cfg).state_dict()
    expected = [f"roi_heads.{key}" for key in WRITTEN[name][mode]]
    assert [key for key in state if key not in stock] == expected and set(stock) <= set(state)
    assert list(new) == list(state) and all(new[key].shape == value.shape for key, value in state.items())


def test_the_old_classes_are_where_they_were_and_can_be_derived_from(cfg_of):
    for name, (new, _) in OLD_HEADS.items():
        module = cascade if "Cascade" in name else roi_heads
        old = getattr(module, name)
        assert ROI_HEADS_REGISTRY.get(name) is old and issubclass(old, getattr(module, new))
        assert (old.__module__, old.__qualname__) == (module.__name__, name), "as a lazy config keeps it"

    class MaskHeads(StandardROIHeads):
        pass

    class TheirOldHeads(MaskHeads, roi_heads.PrototypeEvidentialROIHeads):
        """In MODEL.ROI_HEADS.NAME of a project that knew nothing of branches by name."""

    ROI_HEADS_REGISTRY.register(TheirOldHeads)
    try:
        assert list(build_model(cfg_of("TheirOldHeads")).roi_heads.box_branches) == ["prototype", "evidence"]
    finally:
        ROI_HEADS_REGISTRY._obj_map.pop("TheirOldHeads")


def config(*words):
    cfg = get_cfg()
    add_osal_config(cfg)
    cfg.merge_from_list(list(words))
    return cfg


def adopted(*words):
    cfg = config(*words)
    adopt_old_keys(cfg, default=default_config())
    heads, auxiliary = cfg.MODEL.ROI_HEADS, cfg.OSAL.AUXILIARY
    return heads.NAME, heads.BOX_BRANCHES, auxiliary.ROI_HEADS_NAME, auxiliary.BOX_BRANCHES


def test_a_config_with_old_names_is_one_with_branches():
    ours = "OpenSetStandardROIHeads"
    names = ("MODEL.ROI_HEADS.NAME", "PrototypeEvidentialROIHeads")
    names += ("OSAL.AUXILIARY.ROI_HEADS_NAME", "PrototypeRes5ROIHeads")
    both = ["PrototypeBranch", "EvidentialBranch"]
    assert adopted(*names) == (ours, both, "OpenSetRes5ROIHeads", ["PrototypeBranch"])
    without = ("OSAL.PROTOTYPE.ENABLED", False)
    assert adopted(*names, *without) == (ours, ["EvidentialBranch"], "OpenSetRes5ROIHeads", [])
    assert adopted(*without) == ("Res5ROIHeads", ["EvidentialBranch"], ours, [])
    assert adopted("MODEL.ROI_HEADS.NAME", "MyROIHeads")[:2] == ("MyROIHeads", ["EvidentialBranch"])


def test_an_old_name_with_other_branches_is_refused(cfg_of):
    message = "the ROI heads EvidentialROIHeads have EvidentialBranch; name OpenSetStandardROIHeads instead"
    for listed in (["AreaOfMine"], ["PrototypeBranch", "EvidentialBranch"], []):
        cfg = cfg_of("EvidentialROIHeads")
        cfg.MODEL.ROI_HEADS.BOX_BRANCHES = listed
        with pytest.raises(ConfigError, match=message):
            build_model(cfg)
        with pytest.raises(ConfigError, match=message):
            adopted("MODEL.ROI_HEADS.NAME", "EvidentialROIHeads", BRANCHES[0], listed)
    with pytest.raises(ConfigError, match=r"BOX_BRANCHES \[PrototypeBranch\]: .*EvidentialBranch; name"):
        adopted("MODEL.ROI_HEADS.NAME", "EvidentialROIHeads", BRANCHES[0], ["PrototypeBranch"])


OLD_RUN = {
    "MODEL.ROI_HEADS.NAME": "PrototypeEvidentialROIHeads",
    "OSAL.AUXILIARY.ROI_HEADS_NAME": "PrototypeROIHeads",
    "OSAL.PROTOTYPE.ENABLED": True,
}
BRANCHES = ("MODEL.ROI_HEADS.BOX_BRANCHES", "OSAL.AUXILIARY.BOX_BRANCHES")


def test_a_run_and_a_round_0_of_old_heads_go_on_and_other_branches_are_another_run(tmp_path):
    cfg = config("MODEL.ROI_HEADS.NAME", "OpenSetStandardROIHeads")
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = ["PrototypeBranch", "EvidentialBranch"]
    adopt_old_keys(cfg)
    now = matching_config(cfg)
    then = {key: value for key, value in {**now, **OLD_RUN}.items() if key not in BRANCHES}
    facts = {"strategy": "osal_nd", "seed": 0, "known_classes": ["a"], "pool": ["t"], "versions": {}}
    Ledger.create(tmp_path, plan=[1], config={**then, "plan": [1]}, dataset_sha256="x", **facts)
    wanted = {"node": "PCSS", "resume": True, "read_only": False}
    recipe = json.dumps(training_keys(then))

    def resume(config):
        return find_ledger(
            tmp_path, facts={"config": {**config, "plan": [1]}, "dataset_sha256": "x"}, **wanted
        )

    assert resume(now)
    check_recipe("round_0.pth", recipe, training_keys(now))
    other = {**now, BRANCHES[0]: ["EvidentialBranch"]}
    with pytest.raises(LedgerError, match=rf"{BRANCHES[0]}: .*PrototypeBranch.* -> \[.EvidentialBranch.\]"):
        resume(other)
    with pytest.raises(ConfigError, match=BRANCHES[0]):
        check_recipe("round_0.pth", recipe, training_keys(other))


def test_a_lazy_run_of_old_heads_is_one_of_the_new(tmp_path):
    then = {"model.target.roi_heads._target_": "osal_detectron2.modeling.cascade.EvidentialCascadeROIHeads"}
    assert list(renamed(then).values()) == ["osal_detectron2.modeling.cascade.OpenSetCascadeROIHeads"]
    mine = {"model.roi_heads._target_": "my.heads.MaskHeads"}
    assert renamed(mine) == mine


def test_a_grid_knows_the_cells_that_it_finished_by_the_old_names(tmp_path):
    hashes = []
    for heads in ("OpenSetStandardROIHeads", "EvidentialROIHeads"):
        path = tmp_path / f"{heads}.yaml"
        path.write_text(f"MODEL: {{ROI_HEADS: {{NAME: {heads}}}}}\nVERSION: 2\n")
        hashes.append([cell["config_sha256"] for cell in describe(str(path), [["OSAL.STRATEGY", "lfosa"]])])
    # By commit be7c1c3, from the second file.
    assert hashes == [["378cb0118bafa040a353f19b788a3aee4074d0ae82950206bb661305fea7d2fb"]] * 2


def test_lfosa_has_an_auxiliary_without_branches(cfg_of):
    torch.manual_seed(0)
    cfg = cfg_of("OpenSetStandardROIHeads")
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = []
    heads = build_model(cfg).roi_heads
    assert len(heads.box_branches) == 0 and heads.detection_fields == (
        "loc_tightness",
        "logits",
        "roi_feature",
    )
