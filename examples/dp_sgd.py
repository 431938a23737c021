"""Differentially private SGD (Abadi et al. 2016): every example's own gradient is clipped, and noise is added."""

from typing import Any

import numpy as np

import gradwire as gw
from examples.running import run


def logistic(params: dict[str, gw.Expression], x: gw.Expression, y: gw.Expression) -> gw.Expression:
    """log(1 + exp(-y (w.x + b))), of one example."""
    return gw.softplus(-y * (gw.dot(params["w"], x) + params["b"]))


def private(grads: Any, norm: float, noise: float, random: np.random.Generator) -> Any:
    """The mean of gradients of norm ``norm`` at most, with noise of ``noise`` norms."""
    flat = np.concatenate([grad.reshape(len(grad), -1) for grad in grads.values()], axis=1)
    scale = np.minimum(1, norm / np.linalg.norm(flat, axis=1))
    clipped = {name: np.tensordot(scale, grad, 1) for name, grad in grads.items()}
    return {name: (g + random.normal(0, noise * norm, np.shape(g))) / len(scale) for name, g in clipped.items()}


def main(client: gw.Client) -> float:
    """Share of examples that the trained classifier tells apart."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 5))
    y = np.sign(x @ [2.0, -1.0, 0.5, 0.0, 1.0] + 0.3)
    params: dict[str, Any] = {"w": np.zeros(5), "b": 0.0}
    step = client.value_and_grad(logistic, per_example=("x", "y"), reduction="none")
    for _ in range(100):
        batch = random.choice(len(x), 256, replace=False)
        _, grads = step(params, x=x[batch], y=y[batch])
        change = private(grads, norm=1.0, noise=1.1, random=random)
        params = {name: value - 2.0 * change[name] for name, value in params.items()}
    return float(np.mean(np.sign(x @ params["w"] + params["b"]) == y))


if __name__ == "__main__":
    run(main)
