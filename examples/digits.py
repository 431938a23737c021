"""A perceptron on handwritten digits, trained with Adam (Kingma and Ba 2014) on pytrees, as one trains with Optax."""

from collections.abc import Callable
from typing import Any

import numpy as np
from optree import tree_map
from sklearn.datasets import load_digits

import gradwire as gw
from examples.running import run


def mlp(params: list[dict[str, gw.Expression]], x: gw.Expression, label: gw.Expression) -> gw.Expression:
    """Cross-entropy of one image's scores."""
    *hidden, last = params
    for layer in hidden:
        x = gw.relu(layer["w"] @ x + layer["b"])
    return gw.softmax_cross_entropy_with_integer_labels(last["w"] @ x + last["b"], label)


def scores(params: Any, x: Any) -> Any:
    """The scores of all images, by NumPy."""
    *hidden, last = params
    for layer in hidden:
        x = np.maximum(0, x @ layer["w"].T + layer["b"])
    return x @ last["w"].T + last["b"]


def averaged(kept: float, added: float | None = None) -> Callable[[Any, Any], Any]:
    """What adds two arrays with these weights."""
    return lambda old, new: kept * old + (1 - kept if added is None else added) * new


def scaled(mean: Any, square: Any) -> Any:
    """The step that Adam makes, but for its rate."""
    return mean / (np.sqrt(square) + 1e-8)


def main(client: gw.Client) -> float:
    """Share of the last 297 images that are told apart."""
    random = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    params: Any = [{"w": random.normal(0, 0.2, size), "b": np.zeros(size[0])} for size in ((32, 64), (10, 32))]
    mean = square = tree_map(np.zeros_like, params)
    step = client.value_and_grad(mlp, per_example=("x", "label"))
    for count in range(1, 301):
        batch = random.choice(1500, 128, replace=False)
        _, grads = step(params, x=images[batch], label=labels[batch])
        mean = tree_map(averaged(0.9), mean, grads)
        square = tree_map(averaged(0.999), square, tree_map(np.square, grads))
        rate = -0.01 * np.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        params = tree_map(averaged(1.0, rate), params, tree_map(scaled, mean, square))
    return float(np.mean(scores(params, images[1500:]).argmax(1) == labels[1500:]))


if __name__ == "__main__":
    run(main)
