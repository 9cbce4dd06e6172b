"""The head of LL4AL by itself, on random maps."""

import copy

import pytest
import torch

from osal_detectron2.modeling.loss_prediction import LossPredictionModule, pair_loss


def head(**kwargs):
    torch.manual_seed(0)
    return LossPredictionModule(channels={"p2": 4, "p3": 6}, strides={"p2": 4, "p3": 8}, hidden=8, **kwargs)


def maps(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "p2": torch.randn(count, 4, 8, 8, generator=generator),
        "p3": torch.randn(count, 6, 4, 4, generator=generator),
    }


def test_padding_takes_no_part():
    """An image of 20 x 9 pixels covers 5 x 3 cells of stride 4, and 3 x 2 of stride 8."""
    model, sizes = head(), [(20, 9), (32, 32)]
    before = maps(2)
    padded = copy.deepcopy(before)
    padded["p2"][0, :, 5:], padded["p2"][0, :, :, 3:] = 1e6, -1e6
    padded["p3"][0, :, 3:], padded["p3"][0, :, :, 2:] = 1e6, -1e6
    assert torch.equal(model(padded, sizes), model(before, sizes))
    padded["p2"][0, 0, 4, 2] += 5
    padded["p3"][0, 0, 2, 1] += 5
    assert model(padded, sizes)[0] != model(before, sizes)[0]


def test_mixed_precision_leaves_the_head_alone():
    model, sizes = head(), [(32, 32)] * 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(maps(4), sizes)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, model(maps(4), sizes))


def test_it_learns_to_rank():
    model, features, sizes = head(), maps(32), [(32, 32)] * 32
    losses = features["p2"][:, 0].mean(dim=(1, 2)) - features["p3"][:, 2].mean(dim=(1, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def in_order():
        predicted = model(features, sizes)
        right = (predicted[:, None] > predicted) == (losses[:, None] > losses)
        return right[~torch.eye(32, dtype=torch.bool)].float().mean().item()

    assert in_order() < 0.75
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        order = torch.randperm(32, generator=generator)
        optimizer.zero_grad()
        pair_loss(model({k: v[order] for k, v in features.items()}, sizes), losses[order]).backward()
        optimizer.step()
    assert in_order() > 0.9


@pytest.mark.parametrize(
    ("fraction", "steps", "expected"),
    [(0.0, 0, True), (1.0, 9, False), (0.8, 7, False), (0.8, 8, True)],
)
def test_detached_at_a_fraction_of_the_round(fraction, steps, expected):
    model = head(detach_fraction=fraction, round_iters=10)
    model.steps.fill_(steps)
    assert model.detached is expected
    unknown = head(detach_fraction=fraction)
    assert unknown.detached is (fraction == 0)
