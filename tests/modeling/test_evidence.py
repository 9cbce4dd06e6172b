import pytest
import torch
from detectron2.structures import Instances

from osal_detectron2.core.errors import ConfigError
from osal_detectron2.modeling.evidence import (
    EvidentialBranch,
    KLSchedule,
    activate,
    kl_to_uniform,
    tmc_loss,
    vacuity,
)


def proposals(*gt_classes):
    result = Instances((10, 10))
    result.gt_classes = torch.tensor(gt_classes, dtype=torch.long)
    return [result]


@pytest.mark.parametrize(
    "logits, expected",
    [
        ((2.0, -1.0, 0.5), 0.5454545),
        ((-1.0, -2.0, -3.0), 1.0),
        ((6.0, 6.0, -1.0), 0.2),
        ((6.0, -1.0, -1.0), 1 / 3),
    ],
)
def test_vacuity_of_equation_4(logits, expected):
    assert vacuity(activate(torch.tensor([logits]), "relu")).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "evidence, label, kl_weight, expected",
    [
        ((9.0, 0.0, 0.0), 0, 1.0, 0.190909),
        ((9.0, 0.0, 0.0), 1, 1.0, 5.309029),
        ((9.0, 0.0, 0.0), 1, 0.5, 4.164453),
        ((9.0, 0.0, 0.0), 1, 0.0, 3.019877),
        ((0.0, 0.0, 0.0), 0, 1.0, 1.5),
    ],
)
def test_tmc_loss(evidence, label, kl_weight, expected):
    loss = tmc_loss(torch.tensor([evidence]), torch.tensor([label]), kl_weight)
    assert loss.shape == (1,) and loss.item() == pytest.approx(expected, abs=1e-5)


def test_divergence_agrees_with_torch_distributions():
    evidence, labels = torch.rand(20, 5) * 30, torch.randint(5, (20,))
    mine = tmc_loss(evidence, labels, 1.0) - tmc_loss(evidence, labels, 0.0)
    alpha = (evidence + 1).scatter(1, labels[:, None], 1.0)
    dirichlet = torch.distributions.Dirichlet
    reference = torch.distributions.kl_divergence(dirichlet(alpha), dirichlet(torch.ones(20, 5)))
    assert torch.allclose(mine, reference, atol=1e-4)


@pytest.mark.parametrize("kind", ["relu", "softplus", "exp"])
def test_evidence_is_finite_and_not_negative(kind):
    evidence = activate(torch.tensor([[-1e4, -1.0, 0.0, 1.0, 1e4]]), kind)
    assert torch.isfinite(evidence).all() and (evidence >= 0).all() and (evidence.diff() >= 0).all()


def test_kl_weight_grows_over_its_part_of_the_round():
    schedule = KLSchedule(kl_weight=2.0, anneal_fraction=0.5, round_iters=8)
    assert [schedule.advance() for _ in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    schedule.set_clock(round_iters=4, step=0)
    assert [schedule.advance() for _ in range(3)] == [0.0, 1.0, 2.0]
    assert KLSchedule(kl_weight=2.0, anneal_fraction=0.5).advance() == 2.0


def test_posthoc_reads_the_foreground_logits_and_has_no_parameters():
    branch = EvidentialBranch(feature_dim=4, num_classes=3)
    fields = branch.fields(torch.zeros(1, 4), torch.tensor([[2.0, -1.0, 0.5, 50.0]]))
    assert fields["cls_uncertainty"].tolist() == pytest.approx([0.5454545])
    assert not list(branch.state_dict()) and branch.losses(torch.zeros(1, 4), proposals(0), 3) == {}


def test_branch_learns_from_foreground_without_a_gradient_to_the_features():
    branch = EvidentialBranch(feature_dim=4, num_classes=3, mode="branch", weight=2.0)
    features = torch.rand(3, 4, requires_grad=True)
    loss = branch.losses(features, proposals(0, 3, 2), 3)["loss_evidence"]
    evidence = activate(branch.evidence(features[[0, 2]]), "softplus")
    assert loss.item() == pytest.approx(2 * tmc_loss(evidence, torch.tensor([0, 2]), 1.0).mean().item())
    loss.backward()
    assert features.grad is None and branch.evidence.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("alpha", "expected"), [((1.0, 1.0, 1.0), 0.0), ((2.0, 1.0), 0.1931472), ((2.0, 2.0), 0.1250928)]
)
def test_divergence_from_no_evidence(alpha, expected):
    """ln 2 - 1/2 by hand; for (2, 2) ln 6 + 2 (psi(2) - psi(4)) = ln 6 - 5/3."""
    assert kl_to_uniform(torch.tensor([alpha])).item() == pytest.approx(expected, abs=1e-6)


def test_background_is_zero_evidence_where_told_to_and_weighs_as_much_as_foreground():
    branch = EvidentialBranch(feature_dim=4, num_classes=3, mode="branch", weight=2.0, background=True)
    features = torch.rand(5, 4, requires_grad=True)
    loss = branch.losses(features, proposals(0, 3, 3, -1, 3), 3)["loss_evidence"]
    evidence = activate(branch.evidence(features), "softplus")
    foreground = tmc_loss(evidence[[0]], torch.tensor([0]), 1.0).mean()
    background = kl_to_uniform(evidence[[1, 2, 4]] + 1).mean()
    assert loss.item() == pytest.approx(2 * (foreground + background).item())
    loss.backward()
    assert features.grad is None

    optimizer = torch.optim.SGD(branch.parameters(), lr=0.5)
    before = branch.fields(features, None)["cls_uncertainty"].mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        branch.losses(features, proposals(*[3] * 5), 3)["loss_evidence"].backward()
        optimizer.step()
    after = branch.fields(features, None)["cls_uncertainty"].mean().item()
    assert before < 0.7 and after > 0.9, "what is trained as background ends without evidence"


def test_background_evidence_without_a_layer_to_train_names_the_remedy():
    with pytest.raises(ConfigError, match="OSAL.EVIDENCE.BACKGROUND.*MODE branch.*posthoc"):
        EvidentialBranch(feature_dim=1, num_classes=2, background=True)


def test_branch_without_foreground_gives_a_connected_zero():
    branch = EvidentialBranch(feature_dim=4, num_classes=3, mode="branch")
    loss = branch.losses(torch.rand(2, 4), proposals(3, 3), 3)["loss_evidence"]
    loss.backward()
    assert loss.item() == 0.0 and branch.evidence.weight.grad.abs().sum() == 0.0


@pytest.mark.parametrize("argument", [{"mode": "mc_dropout"}, {"activation": "tanh"}])
def test_unknown_options_are_named(argument):
    with pytest.raises(ConfigError, match="OSAL.EVIDENCE.*not one of"):
        EvidentialBranch(feature_dim=1, num_classes=2, **argument)
