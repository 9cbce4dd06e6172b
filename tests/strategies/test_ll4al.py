import numpy as np
from test_strategies import answer, pool

from osal_detectron2.strategies import QueryContext, get_strategy


def by_loss(*values):
    return lambda key: {"predicted_loss": np.array([values[pool(len(values)).index(key)]])}


def test_the_largest_predicted_losses_are_queried():
    """Any sign will do: the head learns an order, not a scale."""
    requests = []
    context = QueryContext(pool=pool(5), budget=3, seed=0, round_index=0)
    selection = answer(get_strategy("ll4al")(), context, by_loss(-2.0, 0.5, -0.1, 3.0, 0.4), requests)
    assert selection.selected == tuple(pool(5)[i] for i in (3, 1, 4))
    assert selection.scores["predicted_loss"][pool(5)[0]] == -2.0
    assert selection.reasons[pool(5)[3]] == "rank 1 of 5: predicted loss 3.000"
    assert [(r.detector, r.source, r.over) for r in requests] == [("target", "loss", pool(5))]


def test_equal_predictions_are_drawn_by_seed():
    """A head that has not learned predicts about the same everywhere."""
    picks = {
        answer(
            get_strategy("ll4al")(),
            QueryContext(pool=pool(20), budget=4, seed=seed, round_index=0),
            by_loss(*[0.1 + 1e-8 * i for i in range(20)]),
        ).selected
        for seed in range(3)
    }
    assert len(picks) == 3
