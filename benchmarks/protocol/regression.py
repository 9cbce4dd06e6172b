"""Multinomial logistic regression at its optimum: a detector's classifier without a schedule."""

import numpy as np
from scipy.optimize import minimize

BIAS_PENALTY = 1e-4


def fit(
    x: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    classes: int,
    penalty: float,
    start: np.ndarray | None = None,
    iterations: int = 200,
) -> np.ndarray:
    """Minimise sum_i w_i CE_i + penalty / 2 |W|^2 by L-BFGS.

    The bias is hardly penalised: enough for a class without a sample to have an optimum at all.

    Args:
        x: (n, D) float32. labels: (n,) in [0, classes). weights: (n,), summing to one.
        start: (D + 1, classes) to begin with; the problem is convex, so it changes the time and not the result.

    Returns:
        (D + 1, classes) float32, the bias last.
    """
    n, dim = x.shape
    weights = weights.astype(np.float32)
    rows = np.arange(n)
    strength = np.full((dim + 1, 1), penalty)
    strength[-1] = min(penalty, BIAS_PENALTY)

    def objective(flat):
        w = flat.reshape(dim + 1, classes).astype(np.float32)
        logits = x @ w[:-1] + w[-1]
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1)
        loss = float(weights @ (np.log(total) - logits[rows, labels]))
        p /= total[:, None]
        p[rows, labels] -= 1.0
        p *= weights[:, None]
        gradient = np.empty((dim + 1, classes))
        gradient[:-1] = x.T @ p
        gradient[-1] = p.sum(axis=0)
        gradient += strength * w
        return loss + 0.5 * float((strength * np.square(w, dtype=np.float64)).sum()), gradient.ravel()

    begin = np.zeros((dim + 1, classes)) if start is None else start.astype(np.float64)
    options = {"maxiter": iterations, "gtol": 1e-5, "ftol": 1e-6, "maxcor": 12}
    found = minimize(objective, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(dim + 1, classes).astype(np.float32)


def logits(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(n, classes), shifted so that each row sums to zero: softmax fixes them up to a constant."""
    values = x @ w[:-1] + w[-1]
    return values - values.mean(axis=1, keepdims=True)
