"""The loss of prototypes (equations 1 and 2), and the refit that minimises it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from osal_detectron2.modeling.prototypes import class_means, prototype_distances, prototype_loss
from osal_detectron2.scoring.prototypes import refit_prototypes

BOTH = torch.tensor([True, True])


@pytest.mark.parametrize(
    "feature, known, unknown, label, expected",
    [
        ((3.0, 4.0), (0.0, 0.0), (6.0, 8.0), 0, 10.0),
        ((3.0, 4.0), (0.0, 0.0), (6.0, 8.0), 1, 10.0),
        ((0.0, 0.0), (0.0, 0.0), (6.0, 8.0), 0, 0.0),
        ((0.0, 0.0), (3.0, 0.0), (0.0, 4.0), 0, 3.0 + 6.0),
        ((0.0, 0.0), (3.0, 0.0), (0.0, 4.0), 1, 4.0 + 7.0),
        ((0.0, 0.0), (0.0, 0.0), (0.0, 20.0), 0, 0.0),
    ],
)
def test_loss_is_that_of_equations_1_and_2(feature, known, unknown, label, expected):
    loss = prototype_loss(
        torch.tensor([feature]), torch.tensor([label]), torch.tensor([known, unknown]), BOTH, 10.0
    )
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_loss_is_a_mean_over_regions_or_over_classes():
    features = torch.tensor([[1.0], [2.0], [6.0], [5.0]])
    prototypes = torch.tensor([[0.0], [100.0]])
    labels = torch.tensor([0, 0, 0, 1])
    unknown_term = 95.0 + 5.0
    assert prototype_loss(features, labels, prototypes, BOTH, 10.0).item() == pytest.approx(
        (9.0 + unknown_term) / 4
    )
    balanced = prototype_loss(features, labels, prototypes, BOTH, 10.0, balanced=True)
    assert balanced.item() == pytest.approx((3.0 + unknown_term) / 2)


def test_terms_of_an_undefined_prototype_are_omitted():
    features, labels = torch.tensor([[3.0, 4.0]]), torch.tensor([0])
    loss = prototype_loss(features, labels, torch.zeros(2, 2), torch.tensor([True, False]), 10.0)
    assert loss.item() == pytest.approx(5.0)


def test_gradient_is_finite_where_a_feature_lies_on_its_prototype():
    prototypes = torch.zeros(2, 3, requires_grad=True)
    features = torch.zeros(1, 3, requires_grad=True)
    prototype_loss(features, torch.tensor([0]), prototypes, BOTH, 10.0).backward()
    assert torch.isfinite(prototypes.grad).all() and torch.isfinite(features.grad).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 30), st.floats(0.01, 30.0), st.booleans())
def test_refit_never_raises_the_summed_loss(seed, known, unknown, scale, balanced):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(known + unknown, 4, generator=generator) * scale
    labels = torch.tensor([0] * known + [1] * unknown)
    fitted, before, after = refit_prototypes(features, labels, margin=10.0, balanced=balanced, steps=50)
    means, defined = class_means(features, labels)
    n = len(features)
    assert after <= before
    assert before == pytest.approx(
        n * prototype_loss(features, labels, means, defined, 10.0, balanced).item(), rel=1e-4
    )
    assert after == pytest.approx(
        n * prototype_loss(features, labels, fitted, defined, 10.0, balanced).item(), rel=1e-4
    )
    assert defined[1].item() == (unknown > 0) and torch.equal(fitted[~defined], means[~defined])


@pytest.mark.parametrize("balanced", [False, True])
def test_refit_reaches_the_minimum_that_scipy_finds(balanced):
    generator = torch.Generator().manual_seed(3)
    features = torch.cat(
        [torch.randn(80, 3, generator=generator), torch.randn(20, 3, generator=generator) + 3]
    )
    features[:5] += 40  # outliers drag the mean away from the geometric median
    labels = torch.tensor([0] * 80 + [1] * 20)
    fitted, before, after = refit_prototypes(features, labels, margin=10.0, balanced=balanced)

    def loss(flat):
        p = torch.as_tensor(flat.reshape(2, 3), dtype=torch.float32)
        return 100 * prototype_loss(features, labels, p, BOTH, 10.0, balanced).item()

    starts = [class_means(features, labels)[0].numpy(), fitted.numpy()]
    reference = min(
        minimize(loss, start.astype(np.float64).ravel(), method="Nelder-Mead", options={"maxiter": 4000}).fun
        for start in starts
    )
    assert after < before - 10
    assert after <= reference * 1.01


def test_a_balanced_refit_keeps_the_prototype_of_a_rare_class_in_reach():
    generator = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(950, 8, generator=generator), torch.randn(50, 8, generator=generator) + 1.0
    features, labels = torch.cat([known, unknown]), torch.tensor([0] * 950 + [1] * 50)

    def called_unknown(balanced):
        fitted, _, _ = refit_prototypes(features, labels, margin=10.0, balanced=balanced)
        distances = prototype_distances(features, fitted)
        nearer = (distances[:, 1] < distances[:, 0]).float()
        return nearer[labels == 0].mean().item(), nearer[labels == 1].mean().item()

    assert called_unknown(False) == (0.0, 0.0)  # 950 known nuclei push it out of the margin
    wrongly, rightly = called_unknown(True)
    assert wrongly < 0.15 and rightly > 0.8


def test_refit_is_deterministic_and_keeps_its_arguments():
    features, labels = torch.rand(20, 4), torch.arange(20) % 2
    copy = features.clone()
    first, second = (refit_prototypes(features, labels, margin=10.0)[0] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(copy, features)
