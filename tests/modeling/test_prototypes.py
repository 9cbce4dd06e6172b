import pytest
import torch
import torch.multiprocessing as mp
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.prototypes import PrototypeBranch, prototype_distances
from osal_detectron2.scoring.prototypes import refit_prototypes


def proposals(*gt_classes):
    result = Instances((10, 10))
    result.gt_classes = torch.tensor(gt_classes, dtype=torch.long)
    return [result]


def step(branch, features, *gt_classes):
    return branch.losses(torch.as_tensor(features).float(), proposals(*gt_classes), 2)["loss_prototype"]


def test_warm_up_ends_at_the_running_class_means():
    branch = PrototypeBranch(feature_dim=2, warmup_iters=2, warmup_fraction=0.0, momentum=0.5)
    for x in (1.0, 4.0):
        assert step(branch, [[x, 0.0], [0.0, x]], 0, 1).item() == 0.0
        assert torch.isinf(branch.distances(torch.zeros(1, 2))).all()
    loss = step(branch, [[8.0, 0.0], [0.0, 8.0]], 0, 1)
    mean = (0.25 * 1 + 0.5 * 4 + 8) / 1.75
    assert torch.allclose(branch.prototypes.detach(), torch.tensor([[mean, 0.0], [0.0, mean]]))
    own, other = 8 - mean, 10 - (8**2 + mean**2) ** 0.5
    assert loss.item() == pytest.approx(0.1 * (own + max(other, 0.0)), rel=1e-5)


def test_a_class_first_seen_after_the_warm_up_gets_its_prototype_then():
    branch = PrototypeBranch(feature_dim=2, warmup_iters=1, warmup_fraction=0.0)
    for _ in range(3):
        step(branch, [[1.0, 1.0]], 0)
    assert branch.initialised.tolist() == [True, False]
    distances = branch.distances(torch.zeros(1, 2))
    assert distances[0, 0].item() == pytest.approx(2**0.5) and torch.isinf(distances[0, 1])
    assert step(branch, [[5.0, 5.0]], 1).item() == pytest.approx(0.1 * (10 - 32**0.5), rel=1e-4)
    assert branch.prototypes[1].tolist() == [5.0, 5.0]


def test_a_class_seen_once_at_the_start_of_the_warm_up_is_not_forgotten():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=200, warmup_fraction=0.0, momentum=0.1)
    step(branch, [[3.0], [7.0]], 0, 1)
    for _ in range(200):
        step(branch, [[3.0]], 0)
    assert branch.prototypes[1].item() == 7.0


@pytest.mark.parametrize("mode, expected", [("ema", (0.5 * 2 + 6) / 1.5), ("mean", 4.0), ("learnable", 2.0)])
def test_modes_differ_in_what_moves_the_prototype(mode, expected):
    branch = PrototypeBranch(feature_dim=1, mode=mode, warmup_iters=0, warmup_fraction=0.0, momentum=0.5)
    for x in (2.0, 6.0):
        loss = step(branch, [[x]], 0)
    assert branch.prototypes[0].item() == pytest.approx(expected)
    assert branch.prototypes.requires_grad == (mode == "learnable") == loss.requires_grad


def test_gradient_step_moves_a_learnable_prototype_towards_its_class():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=0, warmup_fraction=0.0)
    step(branch, [[2.0]], 0)
    step(branch, [[6.0]], 0).backward()
    assert branch.prototypes.grad[0].item() == pytest.approx(-0.1)
    assert branch.prototypes.grad[1].item() == 0.0


def test_background_regions_take_no_part_and_none_at_all_is_a_connected_zero():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=0, warmup_fraction=0.0)
    features = torch.ones(2, 1, requires_grad=True)
    loss = branch.losses(features, proposals(2, 2), 2)["loss_prototype"]
    loss.backward()
    assert loss.item() == 0.0 and branch.prototypes.grad is not None and features.grad is not None
    assert branch.feature_counts.tolist() == [0.0, 0.0]


def test_last_foreground_class_is_the_unknown_one():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=0, warmup_fraction=0.0)
    branch.losses(torch.tensor([[1.0], [3.0], [9.0], [50.0]]), proposals(0, 1, 2, 3), 3)
    assert branch.prototypes.detach().flatten().tolist() == [2.0, 9.0]


def test_scaled_features_have_length_ten():
    branch = PrototypeBranch(feature_dim=2, norm="scaled", warmup_iters=0, warmup_fraction=0.0)
    step(branch, [[0.3, 0.4], [0.0, 7.0]], 0, 1)
    assert torch.allclose(branch.prototypes.detach(), torch.tensor([[6.0, 8.0], [0.0, 10.0]]))
    distances = branch.distances(torch.tensor([[30.0, 40.0]]))
    assert distances[0].tolist() == pytest.approx([0.0, 40**0.5], abs=1e-4)


@pytest.mark.parametrize(
    "iters, length, expected", [(100, 0, 100), (100, 5000, 500), (100, 600, 100), (100, 50, 25)]
)
def test_warm_up_is_at_most_half_of_a_round(iters, length, expected):
    branch = PrototypeBranch(feature_dim=1, warmup_iters=iters, warmup_fraction=0.1)
    branch.set_clock(round_iters=length, step=0)
    assert branch.warmup == expected


def test_a_new_round_forgets_only_when_told_to():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=0, warmup_fraction=0.0)
    step(branch, [[2.0]], 0)
    branch.set_clock(round_iters=10, step=0)
    assert branch.initialised[0] and branch.steps == 0
    branch.forget()
    assert not branch.initialised.any() and branch.steps == 0
    assert branch.feature_counts.sum() == 0 and branch.prototypes.sum() == 0


@pytest.mark.parametrize("mode", ["learnable", "ema", "mean"])
def test_state_dict_is_all_that_a_resume_needs(mode):
    def branch():
        return PrototypeBranch(feature_dim=2, mode=mode, warmup_iters=3, warmup_fraction=0.0)

    data = torch.rand(6, 4, 2, generator=torch.Generator().manual_seed(0)) * 5
    whole, first, second = branch(), branch(), branch()
    losses = [step(whole, x, 0, 0, 1, 2).item() for x in data]
    for x in data[:2]:
        step(first, x, 0, 0, 1, 2)
    second.load_state_dict(first.state_dict())
    assert [step(second, x, 0, 0, 1, 2).item() for x in data[2:]] == losses[2:]


def test_mixed_precision_does_not_round_the_class_means():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=0, warmup_fraction=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = step(branch, [[1.0], [1.001], [5.0]], 0, 0, 1)
    assert loss.dtype == torch.float32
    assert branch.prototypes.detach().flatten().tolist() == pytest.approx([1.0005, 5.0])


def test_set_prototypes_defines_those_that_are_named():
    branch = PrototypeBranch(feature_dim=2)
    branch.set_prototypes(torch.tensor([[3.0, 4.0], [9.0, 9.0]]), torch.tensor([True, False]))
    distances = branch.fields(torch.zeros(1, 2), None)
    assert (
        distances["dist_known"].item() == pytest.approx(5.0) and torch.isinf(distances["dist_unknown"]).all()
    )


def test_distances_are_logged_where_there_is_a_storage():
    branch = PrototypeBranch(feature_dim=1, warmup_iters=0, warmup_fraction=0.0)
    with EventStorage() as storage:
        step(branch, [[0.0], [4.0]], 0, 1)
        step(branch, [[1.0], [4.0]], 0, 1)
        latest = {name: value for name, (value, _) in storage.latest().items()}
    assert latest["prototype/distance_same"] == pytest.approx(0.5, abs=1e-5)
    assert latest["prototype/distance_other"] == pytest.approx(3.5)
    assert latest["prototype/hinge_active"] == 1.0


@pytest.mark.parametrize("argument", [{"mode": "fixed"}, {"norm": "unit"}])
def test_unknown_options_are_named(argument):
    with pytest.raises(ConfigError, match="OSAL.PROTOTYPE.*not one of"):
        PrototypeBranch(feature_dim=1, **argument)


def _rank(rank, store, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    branch = PrototypeBranch(feature_dim=1, mode="mean", warmup_iters=0, warmup_fraction=0.0)
    # Rank 1 sees the unknown class only, and more of it.
    step(branch, [[2.0]] if rank == 0 else [[4.0], [8.0]], *([0] if rank == 0 else [1, 1]))
    results[rank] = branch.prototypes.detach().flatten().tolist()
    torch.distributed.destroy_process_group()


def test_ranks_agree_on_the_class_means(tmp_path):
    context = mp.get_context("fork")  # a fresh interpreter would spend seconds on imports
    with context.Manager() as manager:
        results = manager.dict()
        mp.start_processes(_rank, args=(tmp_path / "store", results), nprocs=2, start_method="fork")
        assert dict(results) == {0: [2.0, 6.0], 1: [2.0, 6.0]}


def test_a_prototype_that_came_from_the_round_before_needs_no_warm_up():
    branch = PrototypeBranch(feature_dim=1, mode="ema", momentum=0.5, warmup_iters=1, warmup_fraction=0.0)
    for _ in range(2):
        step(branch, [[2.0]], 0)
    branch.set_clock(round_iters=10, step=0)
    step(branch, [[4.0], [6.0]], 0, 1)
    assert branch.prototypes[0].item() == pytest.approx((0.5 * (0.5 * 2 + 2) + 4) / (0.5 * (0.5 + 1) + 1))
    assert not branch.initialised[1]  # the other is new, and this is its warm-up
    step(branch, [[6.0]], 1)
    assert branch.initialised[1]


def tied(**arguments):
    return PrototypeBranch(feature_dim=2, margin=None, warmup_fraction=0.0, **arguments)


def test_a_tied_margin_is_the_distance_of_the_class_means_at_the_end_of_each_warm_up():
    branch = tied(warmup_iters=1, momentum=0.5)
    step(branch, [[0.0, 0.0], [3.0, 0.0]], 0, 1)
    assert branch.margin == 0.0
    loss = step(branch, [[0.0, 0.0], [3.0, 6.0]], 0, 1)  # means (0, 0) and (3, (0.5 * 0 + 6) / 1.5)
    assert branch.margin == pytest.approx(5.0)
    # 0 to (0, 0), and 5 away from (3, 4): nothing pushes; (3, 6) is 2 from its own, and more than 5 from the other
    assert loss.item() == pytest.approx(0.1 * (0 + 2) / 2, abs=1e-5)
    step(branch, [[0.0, 0.0], [9.0, 9.0]], 0, 1)
    assert branch.margin == pytest.approx(5.0), "a margin that follows the features would be no margin"
    branch.set_clock(round_iters=10, step=0)  # the next round, with the weights of this one
    for _ in range(2):
        step(branch, [[0.0, 0.0], [6.0, 8.0]], 0, 1)
    assert 6.0 < branch.margin < 10.5
    branch.forget()
    assert branch.margin == 0.0


def test_a_tied_margin_waits_for_a_class_that_comes_late_and_survives_a_resume():
    branch, resumed = tied(warmup_iters=0), tied(warmup_iters=0)
    step(branch, [[3.0, 4.0]], 0)
    assert branch.margin == 0.0
    step(branch, [[0.0, 0.0]], 1)
    assert branch.margin == pytest.approx(5.0)
    resumed.load_state_dict(branch.state_dict())
    assert resumed.margin == branch.margin
    assert "separation" not in PrototypeBranch(feature_dim=2).state_dict(), "older checkpoints load"


def test_a_refit_with_a_tied_margin_keeps_the_prototype_of_a_rare_class_where_ten_drives_it_out_of_reach():
    generator = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(950, 8, generator=generator), torch.randn(50, 8, generator=generator) + 1.5
    features, labels = torch.cat([known, unknown]), torch.tensor([0] * 950 + [1] * 50)
    branch = PrototypeBranch(feature_dim=8, margin=None, warmup_iters=0)
    branch.losses(features, proposals(*labels.tolist()), 2)

    def called_unknown(margin):
        distances = prototype_distances(features, refit_prototypes(features, labels, margin=margin)[0])
        nearer = (distances[:, 1] < distances[:, 0]).float()
        return nearer[labels == 0].mean().item(), nearer[labels == 1].mean().item()

    assert called_unknown(10.0)[1] < 0.1
    wrongly, rightly = called_unknown(branch.margin)
    assert wrongly < 0.15 and rightly > 0.8
